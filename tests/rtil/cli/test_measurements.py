from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.cli.measurements import Measurement, MeasurementReader, file_labels
from rtil.cli.operator_options import OperatorOptions
from rtil.errors import UserError
from rtil.inverse.measurement_file import save_measurement
from rtil.inverse.operators import Inpainting
from rtil.inverse.recipe import make_with_recipe

SIDE = 16


@pytest.fixture(autouse=True)
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A photo of 40 x 30 pixels, its mask, and both in one file with transparency."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    mask = np.full((30, 40), 255, np.uint8)
    mask[8:20, 12:28] = 0
    Image.fromarray(pixels).save("photo.png")
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(np.dstack([pixels, mask])).save("cut.png")
    return pixels


def read(name: str, fitted: bool = True, given: tuple[str, ...] = (), **options: Any) -> list[Measurement]:
    return MeasurementReader(OperatorOptions(**options), given, SIDE, fitted).read(Path(name))


def test_a_mask_of_the_photo_is_fitted_with_it_and_equals_transparency() -> None:
    (by_mask,) = read("photo.png", task="inpaint", mask="mask.png")
    (by_alpha,) = read("cut.png", task="inpaint")
    assert isinstance(by_mask.operator, Inpainting)
    assert isinstance(by_alpha.operator, Inpainting)
    assert torch.equal(by_mask.operator.mask, by_alpha.operator.mask)
    assert torch.equal(by_mask.y, by_alpha.y)
    assert torch.equal(by_mask.recipe.make().observed, by_mask.operator.observed)
    missing = (~by_mask.operator.mask).nonzero()
    scale = SIDE / 30  # the central 30 x 30 pixels become the picture
    top, left = missing.amin(0).tolist()
    bottom, right = (missing.amax(0) + 1).tolist()
    for got, expected in [(top, 8), (bottom, 20), (left, 12 - 5), (right, 28 - 5)]:
        assert abs(got - expected * scale) <= 0.75


def test_what_a_fitted_mask_hides_plays_no_part(photo: np.ndarray) -> None:
    (before,) = read("photo.png", task="inpaint", mask="mask.png")
    photo[8:20, 12:28] = 255 - photo[8:20, 12:28]
    Image.fromarray(photo).save("photo.png")
    (after,) = read("photo.png", task="inpaint", mask="mask.png")
    assert torch.equal(before.y, after.y)


def test_a_mask_of_the_prior_s_size_is_not_fitted() -> None:
    mask = np.tile(np.array([[0, 255], [255, 255]], np.uint8), (8, 8))
    Image.fromarray(mask).save("fine.png")
    (one,) = read("photo.png", task="inpaint", mask="fine.png")
    assert torch.equal(one.operator.observed[0], torch.from_numpy(mask > 0))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cut.png", {"task": "inversion"}, "transparent pixels, which hold nothing"),
        ("cut.png", {"task": "inpaint", "rate": 0.9}, "transparent pixels, which hold nothing"),
        ("photo.png", {"task": "inpaint"}, "has no transparent pixels: give --mask, --rate, or a picture"),
        ("clear.png", {"task": "inpaint"}, "has nothing but missing pixels"),
        ("photo.png", {"task": "inpaint", "mask": "odd.png"}, "is 7x7 pixels but the pictures are 16x16"),
    ],
)
def test_transparency_that_cannot_be_is_told(name: str, options: dict[str, Any], words: str) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save("clear.png")
    Image.new("L", (7, 7), 255).save("odd.png")
    with pytest.raises(UserError) as error:
        read(name, **options)
    assert words in str(error.value)


def test_pictures_of_a_folder_share_the_operator_of_equal_masks(photo: np.ndarray) -> None:
    Path("folder").mkdir()
    alpha = np.array(Image.open("cut.png"))[..., 3]
    for n, part in {"f10": alpha, "f2": alpha, "f3": alpha[::-1]}.items():
        Image.fromarray(np.dstack([photo, part])).save(f"folder/{n}.png")
    found = read("folder", task="inpaint")
    assert [one.name for one in found] == ["f2.png", "f3.png", "f10.png"]
    assert file_labels(found) == ["f2", "f3", "f10"]
    assert found[0].operator is found[2].operator
    assert found[0].operator is not found[1].operator


def test_a_file_that_knows_its_task_needs_no_options_and_bears_no_others() -> None:
    x = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    operator, recipe = make_with_recipe("cs", (3, SIDE, SIDE), rate=0.2, seed=7)
    save_measurement("y.safetensors", operator(x), recipe, ["dir a/b c.png", "d.png"])
    found = read("y.safetensors", given=("rate",), rate=0.2)
    assert torch.equal(torch.stack([one.y for one in found]), operator(x))
    assert torch.equal(found[0].operator.A(x), operator.A(x))
    assert file_labels(found) == ["b_c", "d"]
    assert all(one.is_told for one in found)
    with pytest.raises(UserError, match="measured with 7 as operator_seed, but operator_seed is 0"):
        read("y.safetensors", given=("operator_seed",))


def test_a_file_of_other_pictures_is_refused() -> None:
    operator, recipe = make_with_recipe("sr", (3, 8, 8), factor=2)
    save_measurement("y.safetensors", operator(torch.zeros(1, 3, 8, 8)), recipe)
    with pytest.raises(UserError, match="measured pictures of 8x8 pixels but the prior's have side 16"):
        read("y.safetensors")


@pytest.mark.parametrize(
    ("stems", "labels"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "A"], ["a.png", "A.jpg"]),
        (["a", None], ["000", "001"]),
        ([None], [""]),
        (["a"], ["a"]),
        (["..", "b"], ["000", "001"]),
    ],
)
def test_no_two_files_have_one_name(stems: list[str | None], labels: list[str]) -> None:
    (one,) = read("photo.png")
    endings = (".png", ".jpg")
    given = [
        Measurement(one.y, one.operator, one.recipe, f"{stem}{end}", stem)
        for stem, end in zip(stems, endings, strict=False)
    ]
    assert file_labels(given) == labels
