from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rtil.errors import UserError
from rtil.evaluation.conditions import conditions


def test_conditions_are_tasks_at_their_own_levels() -> None:
    found = conditions(["cs", "sr", "denoise", "inversion"], [0.05, 0.1], [2, 4], [25.0])
    assert [(condition.task, condition.level) for condition in found] == [
        ("cs", 0.05),
        ("cs", 0.1),
        ("sr", 2),
        ("sr", 4),
        ("denoise", 25.0),
        ("inversion", None),
    ]
    assert [condition.slug for condition in found] == ["cs-0.05", "cs-0.1", "sr-2", "sr-4", "denoise-25", "inversion"]


def test_every_task_has_its_option() -> None:
    tasks = ["blur", "motion", "gaussian", "mri", "fourier", "phase"]
    found = conditions(tasks, [0.1], [], [], None, widths=[1.5], lengths=[9.0], exposures=[2, 4])
    labels = ["blur 1.5 px", "motion 9 px", "gaussian 10 %", "mri 10 %", "fourier 10 %", "phase 2 masks"]
    assert [condition.label for condition in found] == [*labels, "phase 4 masks"]
    assert [condition.operator(16, 0).label for condition in found] == [condition.label for condition in found]
    for task, option in (("blur", "--widths"), ("motion", "--lengths"), ("phase", "--exposures")):
        with pytest.raises(UserError, match=f"task '{task}' has no level: give {option}$"):
            conditions([task], [0.1], [4], [25.0])


def test_a_task_may_have_a_level_of_its_own() -> None:
    found = conditions(["inpaint:0.08", "hole:0.75", "sr:4", "phase:2", "cs"], [0.1], [2], [25.0])
    assert [(condition.task, condition.level) for condition in found] == [
        ("inpaint", 0.08),
        ("hole", 0.75),
        ("sr", 4),
        ("phase", 2),
        ("cs", 0.1),
    ]
    assert found[0].operator(16, 0).label == "inpaint 8 %"


def test_a_mask_takes_the_place_of_rates(tmp_path: Path) -> None:
    Image.new("1", (16, 16), 1).save(tmp_path / "half face.png")
    (condition,) = conditions(["inpaint"], [0.1, 0.2], [], [], str(tmp_path / "half face.png"))
    assert (condition.level, condition.slug) == ("half face", "inpaint-half_face")
    before = condition.settings()
    Image.new("1", (16, 16), 0).save(tmp_path / "half face.png")
    assert condition.settings() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["css"], [0.1], [4], [25]), "did you mean 'cs'"),
        ((["cs"], [], [4], [25]), "give --rates"),
        ((["cs"], [0.1, 0.1], [4], [25]), "each once"),
        (([], [0.1], [4], [25]), "at least one"),
        ((["cs"], [0.1], [4], [25], "m.png"), "not used by task cs"),
        ((["sr:two"], [0.1], [4], [25]), r"'sr:two' has no valid level: factor is a whole number"),
        ((["sr:2.5"], [0.1], [4], [25]), r"'sr:2.5' has no valid level"),
        ((["hdr:2"], [0.1], [4], [25]), r"hdr takes none: leave ':2' away"),
        ((["cs:0.1", "cs"], [0.1], [4], [25]), "each once"),
    ],
)
def test_conditions_that_are_not_valid(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        conditions(*arguments)


def test_operators_differ_by_seed_and_level_and_repeat_exactly() -> None:
    x = torch.rand(1, 3, 16, 16)
    five, ten = conditions(["cs"], [0.05, 0.1], [], [])
    y = ten.operator(16, seed=3).A(x)
    assert torch.equal(ten.operator(16, seed=3).A(x), y)
    assert not torch.equal(ten.operator(16, seed=4).A(x), y)
    assert not set(five.operator(16, 3).A(x).flatten().tolist()) & set(y.flatten().tolist())
