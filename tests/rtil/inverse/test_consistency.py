import pytest
import torch
from torch import Tensor

from rtil.data import open_dataset
from rtil.inverse.consistency import doubt_of_observed, doubt_of_seed
from rtil.inverse.operators import OPERATORS
from rtil.inverse.recipe import make_with_recipe

SIZE = (3, 32, 32)
VALUES = {"rate": 0.2, "factor": 2, "sigma": 25.0, "width": 1.5, "length": 8.0, "exposures": 1}
BY_SEED = ["cs", "gaussian", "phase"]
BY_ZEROS = ["inpaint", "mri", "fourier"]


@pytest.fixture(scope="module")
def faces() -> Tensor:
    return open_dataset("synthetic", 32, "test").load(range(24)).float() / 255


def doubts(task: str, seed: int, faces: Tensor) -> list[str]:
    """Return what is told of the faces, each measured with seed 3, by who says another one."""
    parameters = {name: VALUES[name] for name in OPERATORS[task].parameters[:1]}
    measured = make_with_recipe(task, SIZE, seed=3, **parameters)[0]
    operator, recipe = make_with_recipe(task, SIZE, seed=seed, **parameters)
    mean = faces[4:].mean(0, keepdim=True)
    told = [
        doubt_of_seed(operator, recipe, y[None], mean) or doubt_of_observed(operator, y) for y in measured(faces[:4])
    ]
    return [doubt for doubt in told if doubt is not None]


@pytest.mark.parametrize("task", OPERATORS)
def test_nothing_is_told_of_the_operator_that_measured(task: str, faces: Tensor) -> None:
    assert doubts(task, 3, faces) == []


@pytest.mark.parametrize("task", BY_SEED)
def test_another_seed_is_told_and_the_right_one_found(task: str, faces: Tensor) -> None:
    told = doubts(task, 4, faces)
    assert len(told) == 4
    assert all("operator_seed 4" in doubt and "operator_seed 3 would fit" in doubt for doubt in told)


def test_a_right_seed_beyond_those_that_are_tried_is_not_guessed(faces: Tensor) -> None:
    measured = make_with_recipe("cs", SIZE, seed=1000, rate=0.2)[0]
    operator, recipe = make_with_recipe("cs", SIZE, rate=0.2)
    doubt = doubt_of_seed(operator, recipe, measured(faces[:1]), faces[4:].mean(0, keepdim=True))
    assert doubt is not None
    assert "would fit" not in doubt


@pytest.mark.parametrize("task", BY_ZEROS)
def test_zeros_where_something_should_be_are_told(task: str, faces: Tensor) -> None:
    told = doubts(task, 4, faces)
    assert len(told) == 4
    assert all("are 0, and others are not" in doubt for doubt in told)


@pytest.mark.parametrize("task", sorted({*OPERATORS} - {*BY_SEED, *BY_ZEROS}))
def test_where_seeds_hardly_differ_nothing_is_told(task: str, faces: Tensor) -> None:
    assert doubts(task, 4, faces) == []


def test_black_pictures_are_no_reason_for_doubt() -> None:
    operator, _ = make_with_recipe("inpaint", SIZE, rate=0.2)
    assert doubt_of_observed(operator, torch.zeros(SIZE)) is None
