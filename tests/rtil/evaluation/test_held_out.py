from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.data import open_dataset
from rtil.errors import Notice, UserError
from rtil.evaluation.held_out import (
    fit_linear_prior,
    heldout_pictures,
    heldout_source,
    linear_prior_source,
    picture_hash,
)

SYNTHETIC = {"data": "synthetic"}


def test_pictures_are_a_fixed_choice_of_the_heldout_set() -> None:
    few, many = (heldout_pictures("synthetic", 16, "test", n) for n in (3, 5))
    assert few.keys == many.keys[:3]
    assert torch.equal(few.images, many.images[:3])
    ds = open_dataset("synthetic", 16, "test")
    index = int(few.keys[0].rpartition("-")[2])
    assert torch.equal(few.images[0], ds[index])
    with pytest.raises(UserError, match="valid is 1 to 1000"):
        heldout_pictures("synthetic", 16, "test", 1001)


def test_those_of_a_run_come_first_also_if_they_are_gone(
    tmp_path: Path, make_pictures: Callable[[Path, int, int], Path]
) -> None:
    folder = make_pictures(tmp_path / "held", 6, 16)
    drawn = heldout_pictures(str(folder), 16, "test", 6)
    before = ["5.png", "lost.png", "2.png"]
    with pytest.warns(Notice, match=r"1 of 5 \(first: 'lost.png'\)"):
        found = heldout_pictures(str(folder), 16, "test", 5, before=before)
    assert found.keys == [*before, *[key for key in drawn.keys if key not in before][:2]]
    assert found.gone == {1}
    hashes = dict(zip(drawn.keys, map(picture_hash, drawn.images), strict=True))
    assert [picture_hash(found.images[n]) for n in (0, 2, 3, 4)] == [hashes[found.keys[n]] for n in (0, 2, 3, 4)]
    assert len(set(hashes.values())) == 6
    assert heldout_pictures(str(folder), 16, "test", 1, before=before).gone == frozenset()


def test_heldout_pictures_were_never_trained_on(tmp_path: Path) -> None:
    train = {"data": str(tmp_path / "train")}
    assert heldout_source([SYNTHETIC, SYNTHETIC], None, None) == ("synthetic", "test")
    assert heldout_source([SYNTHETIC], None, "validation") == ("synthetic", "validation")
    assert heldout_source([train], None, None) == (train["data"], "validation")
    assert heldout_source([train], "other.zip", None) == ("other.zip", "test")
    assert heldout_source([train, SYNTHETIC], "other.zip", "validation") == ("other.zip", "validation")
    detour = f"{tmp_path}/x/../train"
    assert heldout_source([train], detour, None) == (detour, "validation")
    with pytest.raises(UserError, match="holds the training pictures"):
        heldout_source([train], detour, "test")
    with pytest.raises(UserError, match=r"different data .*give --data"):
        heldout_source([train, SYNTHETIC], None, None)


def test_checkpoints_that_say_nothing_of_their_training_need_pictures() -> None:
    foreign = {"arch": "stylegan2", "layout": "rosinality's"}
    for infos in ([foreign], [foreign, SYNTHETIC]):
        with pytest.raises(UserError, match=r"does not say what it was trained on.* --data"):
            heldout_source(infos, None, None)
    assert heldout_source([foreign], "synthetic", None) == ("synthetic", "test")
    assert heldout_source([foreign], "other.zip", None) == ("other.zip", "test")
    assert linear_prior_source([foreign], None) is None
    assert linear_prior_source([foreign, SYNTHETIC], None) == "synthetic"
    assert linear_prior_source([foreign, SYNTHETIC], "faces.zip") == "faces.zip"


def test_what_the_linear_prior_is_fitted_to_is_not_what_it_is_judged_on(tmp_path: Path) -> None:
    folder = str(tmp_path / "faces")
    assert heldout_source([{}], folder, None, linear_data=folder) == (folder, "validation")
    with pytest.raises(UserError, match="holds the training pictures"):
        heldout_source([{}], folder, "test", linear_data=folder)


def test_the_linear_prior_is_that_of_the_training_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(20):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    prior = fit_linear_prior(str(folder), resolution=8)
    train = open_dataset(str(folder), 8, "train")
    expected = torch.stack([train[n] for n in range(len(train))]).double().mean(0) / 255
    assert len(train) == 19
    torch.testing.assert_close(prior.mean.view(3, 8, 8), expected)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    (folder / "more").mkdir(parents=True)
    for name in ("00002.png", "00000.png", "00001.png", "more/00003.png", "more/00001.png"):
        Image.new("RGB", (16, 16), (int(Path(name).stem), 0, 0)).save(folder / name)
    return folder


def test_the_first_pictures_are_those_by_name(faces: Path) -> None:
    found = heldout_pictures(str(faces), 16, "test", 3, "first")
    assert found.keys == ["00000.png", "00001.png", "00002.png"]
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_listed_pictures_keep_their_order_and_need_neither_folder_nor_extension(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# of a paper\n00003\n\nmore/00001.png\n00000.png\n")
    found = heldout_pictures(str(faces), 16, "test", 3, str(tmp_path / "list.txt"))
    assert found.keys == ["more/00003.png", "more/00001.png", "00000.png"]
    assert heldout_pictures(str(faces), 16, "test", 2, str(tmp_path / "list.txt")).keys == found.keys[:2]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("00009", r"'00009' of list .* is not in faces"),
        ("00001", "is the name of several pictures"),
        ("00000\n00000.png", "names a picture twice"),
        ("00000", r"images is 2: valid is 1 to 1, the pictures of .*list\.txt"),
        ("\n", "valid is 1 to 0"),
        (None, "pictures is '.*': valid is drawn, first, or a text file"),
    ],
)
def test_lists_that_are_not_valid(faces: Path, tmp_path: Path, listed: str | None, message: str) -> None:
    if listed is not None:
        (tmp_path / "list.txt").write_text(listed)
    with pytest.raises(UserError, match=message):
        heldout_pictures(str(faces), 16, "test", 2, str(tmp_path / "list.txt"))
