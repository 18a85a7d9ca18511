from pathlib import Path

import pytest
import torch
from PIL import Image

from rtil.errors import UserError
from rtil.inverse.operators import OPERATORS
from rtil.inverse.recipe import make_with_recipe

SIZE = (3, 16, 16)
VALUES = {"rate": 0.5, "factor": 2, "sigma": 25.0, "width": 1.5, "length": 4.0, "exposures": 2}


@pytest.mark.parametrize("task", OPERATORS)
def test_an_operator_is_made_again(task: str) -> None:
    parameters = {name: VALUES[name] for name in OPERATORS[task].parameters[:1]}
    noise_sigma = 0.1 if OPERATORS[task].takes_noise else 0.0
    operator, recipe = make_with_recipe(task, SIZE, seed=5, noise_sigma=noise_sigma, mask=None, **parameters)
    again = recipe.make()
    x = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), operator(x))
    assert torch.equal(again.observed, operator.observed)
    assert (type(again), again.label) == (type(operator), operator.label)


def test_a_mask_file_is_not_needed_again(tmp_path: Path) -> None:
    file = tmp_path / "hole.png"
    picture = Image.new("L", SIZE[1:], 255)
    picture.paste(0, (2, 3, 9, 12))
    picture.save(file)
    operator, recipe = make_with_recipe("inpaint", SIZE, mask=str(file), noise_sigma=0.1)
    file.unlink()
    again = recipe.make()
    x = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))
    assert int(again.observed.sum()) == 3 * (256 - 7 * 9)
    assert torch.equal(again(x), operator(x))
    assert again.label == operator.label
    assert recipe.parameters == {"mask": "hole.png"}


def test_mistakes_are_those_of_the_operator() -> None:
    with pytest.raises(UserError, match="does not take factor"):
        make_with_recipe("cs", SIZE, rate=0.1, factor=2)
