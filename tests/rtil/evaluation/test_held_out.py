from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.data import open_dataset
from rtil.errors import UserError
from rtil.evaluation.held_out import fit_linear_prior, heldout_pictures, heldout_source, linear_prior_source

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
