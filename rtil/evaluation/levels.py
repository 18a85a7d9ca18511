"""How the levels of a task are written: in words, and on an axis."""

from collections.abc import Callable
from typing import NamedTuple

from rtil.evaluation.rows import Level
from rtil.inverse.operators import OPERATORS


class Scale(NamedTuple):
    """What an axis of levels says, what a level is multiplied by there, and how people write the product."""

    axis: str
    factor: float
    text: Callable[[float], str]


SCALES = {
    "rate": Scale("observed [%]", 100, "{:g} %".format),
    "factor": Scale("downsampling factor", 1, "x{:g}".format),
    "sigma": Scale("standard deviation of the noise [0-255]", 1, "sigma {:g}".format),
    "width": Scale("standard deviation of the blur [pixels]", 1, "{:g} px".format),
    "length": Scale("length of the motion [pixels]", 1, "{:g} px".format),
    "exposures": Scale("coded masks", 1, lambda number: f"{number:g} mask{'s' * (number != 1)}"),
}
"""By the name of a task's first parameter."""


def scale_of(task: str) -> Scale:
    """Return the scale of a task; a plain one for tasks without a parameter, or that are not known."""
    parameters = OPERATORS[task].parameters if task in OPERATORS else ()
    return SCALES[parameters[0]] if parameters else Scale("level", 1, "{:g}".format)


def level_text(task: str, level: Level) -> str:
    """Return a level as people write it.

    Example:
        >>> level_text("cs", 0.05), level_text("sr", 4), level_text("denoise", 25.0), level_text("inversion", None)
        ('5 %', 'x4', 'sigma 25', '')
    """
    if level is None or isinstance(level, str):
        return level or ""
    scale = scale_of(task)
    return scale.text(scale.factor * level)


def condition_text(task: str, level: Level) -> str:
    """Return a task at a level as people write it.

    Example:
        >>> condition_text("cs", 0.05), condition_text("inversion", None)
        ('cs 5 %', 'inversion')
    """
    return f"{task} {level_text(task, level)}".rstrip()
