from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from rtil.errors import UserError
from rtil.inverse.measurement_file import load_measurement, save_measurement
from rtil.inverse.operators import OPERATORS
from rtil.inverse.recipe import make_with_recipe

SIZE = (3, 16, 16)
VALUES = {"rate": 0.5, "factor": 2, "sigma": 25.0, "width": 1.5, "length": 4.0, "exposures": 2}


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("task", OPERATORS)
def test_who_opens_the_file_has_the_measurements_and_the_operator(task: str, x: torch.Tensor, tmp_path: Path) -> None:
    parameters = {name: VALUES[name] for name in OPERATORS[task].parameters[:1]}
    noise_sigma = 0.1 if OPERATORS[task].takes_noise else 0.0
    operator, recipe = make_with_recipe(task, SIZE, seed=5, noise_sigma=noise_sigma, **parameters)
    save_measurement(tmp_path / "y.safetensors", operator(x), recipe, ["a.png", "b.png"])
    file = load_measurement(tmp_path / "y.safetensors")
    assert torch.equal(file.y, operator(x))
    assert torch.equal(file.recipe.make()(x), operator(x))
    assert file.names == ["a.png", "b.png"]


def test_a_mask_file_is_inside(x: torch.Tensor, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save(mask)
    operator, recipe = make_with_recipe("inpaint", SIZE, mask=str(mask))
    save_measurement(tmp_path / "y.safetensors", operator(x), recipe)
    mask.unlink()
    file = load_measurement(str(tmp_path / "y.safetensors"))
    assert torch.equal(file.recipe.make().observed, torch.eye(16, dtype=torch.bool).expand(3, 16, 16))
    assert file.names == []


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_flip, "its content does not fit its checksum"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is damaged, or no measurement"),
        (lambda path: path.write_bytes(b"anything"), "is damaged, or no measurement"),
        (lambda path: save_file(load_file(path), path), "is no measurement (format ''): give a file that rtil measure"),
        (lambda path: save_file(load_file(path), path, {"format": "rtil-measurement-2"}), "update rtil"),
        (lambda path: path.unlink(), "measurement y.safetensors does not exist"),
    ],
)
def test_what_is_no_sound_file_is_refused(
    harm: Callable[[Path], object], words: str, x: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    operator, recipe = make_with_recipe("sr", SIZE, factor=2)
    path = Path("y.safetensors")
    save_measurement(path, operator(x), recipe)
    harm(path)
    with pytest.raises(UserError) as error:
        load_measurement(path)
    assert words in str(error.value)


def test_what_is_no_measurement_is_not_written(x: torch.Tensor, tmp_path: Path) -> None:
    operator, recipe = make_with_recipe("sr", SIZE, factor=2)
    with pytest.raises(UserError, match=r"\.safetensors file: got"):
        save_measurement(tmp_path / "y.npy", operator(x), recipe)
    with pytest.raises(UserError, match="1 names for 2 measurements"):
        save_measurement(tmp_path / "y.safetensors", operator(x), recipe, ["a"])
    with pytest.raises(UserError, match=r"\[N, 3, 8, 8\]"):
        save_measurement(tmp_path / "y.safetensors", x, recipe)
    assert not list(tmp_path.iterdir())
