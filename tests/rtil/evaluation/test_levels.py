import pytest

from rtil.evaluation.levels import SCALES, level_text, scale_of
from rtil.inverse.operators.registry import OPERATORS


@pytest.mark.parametrize(
    ("task", "level", "text"),
    [
        ("inpaint", "box-1", "box-1"),
        ("cs", 0.01, "1 %"),
        ("sr", 4, "x4"),
        ("denoise", 25.0, "sigma 25"),
        ("blur", 1.5, "1.5 px"),
        ("motion", 9.0, "9 px"),
        ("phase", 1, "1 mask"),
        ("phase", 4, "4 masks"),
        ("classifier", "goldfish", "goldfish"),
        ("inversion", None, ""),
    ],
)
def test_level_text(task, level, text):
    assert level_text(task, level) == text


def test_every_task_has_a_scale():
    assert {name for task in OPERATORS.values() for name in task.parameters[:1]} == set(SCALES)
    assert scale_of("inpaint") == scale_of("cs")
    assert scale_of("unheard of").text(0.5) == "0.5"
