from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.cli.operator_options import OperatorOptions
from rtil.errors import UserError
from rtil.inverse.operators import OPERATORS
from rtil.inverse.recipe import make_with_recipe

SIZE = (3, 16, 16)
FILE = Path("y.safetensors")


def test_the_help_names_every_task() -> None:
    (text,) = [part for part in (OperatorOptions.__doc__ or "").split("\n        rate:") if "task:" in part]
    assert all(task in text.replace(",", " ").replace(".", " ").split() for task in OPERATORS)


def test_the_options_make_the_operator() -> None:
    operator, recipe = OperatorOptions(task="cs", rate=0.25, operator_seed=7).make(16, noise_sigma=0.1)
    expected = make_with_recipe("cs", SIZE, rate=0.25, seed=7, noise_sigma=0.1)[0]
    x = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(operator(x), expected(x))
    assert torch.equal(recipe.make()(x), expected(x))


def test_what_a_file_says_is_taken_over() -> None:
    recipe = make_with_recipe("cs", SIZE, rate=0.25, seed=7)[1]
    options = OperatorOptions()
    options.adopt(recipe, (), FILE)
    assert options == OperatorOptions(task="cs", rate=0.25, operator_seed=7)


@pytest.mark.parametrize("given", [{"task": "cs"}, {"rate": 0.25}, {"task": "cs", "rate": 0.25, "operator_seed": 7}])
def test_what_agrees_with_a_file_may_be_given(given: dict[str, Any]) -> None:
    options = OperatorOptions(**given)
    options.adopt(make_with_recipe("cs", SIZE, rate=0.25, seed=7)[1], given, FILE)
    assert options.rate == 0.25


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task": "sr"}, "measured with 'cs' as task, but task is sr"),
        ({"rate": 0.3}, "measured with 0.25 as rate, but rate is 0.3"),
        ({"operator_seed": 0}, "measured with 7 as operator_seed, but operator_seed is 0"),
        ({"factor": 4}, "measured with no factor, but factor is 4"),
        ({"mask": "mask.png"}, "measured with no mask, but mask is mask.png"),
    ],
)
def test_what_contradicts_a_file_is_refused(given: dict[str, Any], words: str) -> None:
    options = OperatorOptions(**given)
    with pytest.raises(UserError) as error:
        options.adopt(make_with_recipe("cs", SIZE, rate=0.25, seed=7)[1], given, FILE)
    assert words in str(error.value)
    assert "y.safetensors" in str(error.value)


def test_masks_agree_by_their_content(tmp_path: Path) -> None:
    for name, pixels in {"one": np.eye(16), "same": np.eye(16), "other": 1 - np.eye(16)}.items():
        Image.fromarray((pixels * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    recipe = make_with_recipe("inpaint", SIZE, mask=str(tmp_path / "one.png"))[1]
    OperatorOptions(mask=str(tmp_path / "same.png")).adopt(recipe, ["mask"], FILE)
    with pytest.raises(UserError, match=r"measured with 'one\.png' as mask"):
        OperatorOptions(mask=str(tmp_path / "other.png")).adopt(recipe, ["mask"], FILE)
