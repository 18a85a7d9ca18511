"""Under which conditions an evaluation measures: tasks, each at its levels.

An operator is drawn once for each (seed, task, level), so every method and checkpoint sees the same one.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtil.errors import UserError, unknown
from rtil.evaluation.levels import condition_text
from rtil.evaluation.rows import Level
from rtil.inverse.operators import OPERATORS, PARAMETERS, Operator, make_operator
from rtil.seeds import derive_seed

WHOLE = ("factor", "exposures")
"""Parameters that are whole numbers."""


@dataclass(frozen=True)
class Condition:
    """One task at one level.

    Attributes:
        task: Name of the task.
        level: Value of the task's parameter, the mask's name, or None.
        parameters: What :func:`rtil.inverse.operators.make_operator` takes.
    """

    task: str
    level: Level
    parameters: Mapping[str, Any]

    @property
    def label(self) -> str:
        """For people: ``cs 10 %``."""
        return condition_text(self.task, self.level)

    @property
    def slug(self) -> str:
        """For file names: ``cs-0.1``."""
        level = f"{self.level:g}" if isinstance(self.level, float | int) else self.level
        return re.sub(r"[^A-Za-z0-9._-]+", "_", self.task if level is None else f"{self.task}-{level}")

    @property
    def linear(self) -> bool:
        """Whether its operator is linear; the linear prior is evaluated only where it is."""
        return OPERATORS[self.task].linear

    def operator(self, resolution: int, seed: int, noise_sigma: float = 0.0) -> Operator:
        """Return the operator that every picture of this condition is measured with.

        Args:
            resolution: Side of the pictures.
            seed: Root seed.
            noise_sigma: Measurement noise, where the task has none of its own.
        """
        noise = noise_sigma if OPERATORS[self.task].takes_noise else 0.0
        own_seed = derive_seed(seed, "study/operator", self.task, str(self.level))
        size = (3, resolution, resolution)
        return make_operator(self.task, size, noise_sigma=noise, seed=own_seed, **self.parameters)

    def settings(self) -> dict[str, Any]:
        """Return what decides the operator besides task, level and seed: the content of a mask file."""
        if "mask" not in self.parameters:
            return {}
        try:
            content = Path(self.parameters["mask"]).read_bytes()
        except OSError as error:
            raise UserError(
                f"mask '{self.parameters['mask']}' cannot be read ({error.strerror}): give a file"
            ) from error
        return {"mask": hashlib.sha256(content).hexdigest()}


def conditions(
    tasks: Sequence[str],
    rates: Sequence[float],
    factors: Sequence[int],
    sigmas: Sequence[float],
    mask: str | None = None,
    widths: Sequence[float] = (),
    lengths: Sequence[float] = (),
    exposures: Sequence[int] = (),
) -> list[Condition]:
    """Return each task at each of its levels.

    Args:
        tasks: Names of tasks, or ``name:level`` for a task at a level of its own.
        rates: Levels of cs, gaussian, mri, fourier, box, and inpaint without a mask.
        factors: Levels of sr.
        sigmas: Levels of denoise.
        mask: Mask file of inpaint, in place of rates.
        widths: Levels of blur.
        lengths: Levels of motion.
        exposures: Levels of phase.

    Raises:
        UserError: An unknown task, one named twice, no level for one, or a mask that no task uses.

    Example:
        >>> [condition.label for condition in conditions(["cs", "inversion"], [0.05, 0.1], [4], [25])]
        ['cs 5 %', 'cs 10 %', 'inversion']
        >>> [condition.label for condition in conditions(["inpaint:0.08", "sr:4", "hole"], [0.75], [], [])]
        ['inpaint 8 %', 'sr x4', 'hole 75 %']
    """
    levels: dict[str, Sequence[float]] = {"rate": rates, "factor": factors, "sigma": sigmas}
    levels |= {"width": widths, "length": lengths, "exposures": exposures}
    found = []
    for text in tasks:
        task, _, own_level = text.partition(":")
        if task not in OPERATORS:
            raise unknown("task", task, OPERATORS)
        parameters = OPERATORS[task].parameters
        if own_level:
            found.append(_at_level(task, own_level))
        elif mask is not None and "mask" in parameters:
            found.append(Condition(task, Path(mask).stem, {"mask": mask}))
        elif not parameters:
            found.append(Condition(task, None, {}))
        else:
            name = parameters[0]
            if not levels[name]:
                raise UserError(f"task '{task}' has no level: give --{name.removesuffix('s')}s")
            found += [Condition(task, value, {name: value}) for value in levels[name]]
    if mask is not None and not any("mask" in condition.parameters for condition in found):
        raise UserError(f"mask '{mask}' is not used by task {', '.join(tasks)}: add inpaint, or leave it away")
    if not found or len({(condition.task, condition.level) for condition in found}) != len(found):
        raise UserError("tasks and levels are none or repeated: name at least one, and each once")
    return found


def _at_level(task: str, text: str) -> Condition:
    """Read the level of ``task:level``."""
    parameters = OPERATORS[task].parameters
    if not parameters:
        raise UserError(f"task '{task}:{text}' has a level but {task} takes none: leave ':{text}' away")
    name = parameters[0]
    try:
        value = (int if name in WHOLE else float)(text)
    except ValueError:
        raise UserError(f"task '{task}:{text}' has no valid level: {name} is a {PARAMETERS[name]}") from None
    return Condition(task, value, {name: value})
