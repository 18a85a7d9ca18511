"""What shows that a converted generator is what it was: its samples, and the inversion of one of them.

A picture that the generator made itself has an exact solution, so ILO must come nearer to it with every step. Where it
does not, something was lost on the way, long before pictures of others are tried.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rtil.evaluation.metrics import psnr
from rtil.generators import LayeredGenerator
from rtil.inverse.operators import make_operator
from rtil.inverse.registry import settings_class, solver_class
from rtil.pictures import image_grid, readable
from rtil.sampling import samples

TRUNCATION = 0.7
COLUMNS = 4
MOST_STEPS, FEWEST_STEPS, STEPS_OF_ONE_PIXEL = 25, 2, 3200
SMALL_SIDE = 256


class OwnInversion(NamedTuple):
    """The inversion of a generator's own sample.

    Attributes:
        start: dB of the picture from which it starts.
        reached: dB of the result.
        seconds: Wall time.
    """

    start: float
    reached: float
    seconds: float


def usual_steps(resolution: int) -> int:
    """Return the steps of each round that a self-test has time for on a processor.

    Example:
        >>> [usual_steps(side) for side in (32, 256, 1024)]
        [25, 12, 3]
    """
    return max(FEWEST_STEPS, min(MOST_STEPS, STEPS_OF_ONE_PIXEL // resolution))


def own_samples(generator: LayeredGenerator, seed: int) -> Tensor:
    """Return samples [N, 3, R, R] in [0, 1], not clamped: 16, or 4 where pictures are large; drawn one at a time."""
    count = COLUMNS * (COLUMNS if generator.resolution <= SMALL_SIDE else 1)
    return torch.cat([samples(generator, 1, TRUNCATION, seed + n) for n in range(count)])


def sheet(pictures: Tensor) -> Tensor:
    """Lay samples out as one picture."""
    return readable(image_grid(pictures.clamp(0, 1), COLUMNS))


def invert_own(generator: LayeredGenerator, picture: Tensor, steps: Sequence[int], seed: int) -> OwnInversion:
    """Invert a sample [1, 3, R, R] by ILO.

    Args:
        generator: The generator that made it.
        picture: As it was made, not clamped.
        steps: Steps of each round.
        seed: Of the start, another draw than the sample's.
    """
    truth, seen = picture.clamp(0, 1), list[float]()

    def watch(round_number: int, step: int, x: Tensor) -> None:
        if not seen:
            seen.append(float(psnr(x.cpu().clamp(0, 1), truth)))

    settings = settings_class("ilo")().changed(steps=tuple(steps))
    operator = make_operator("inversion", tuple(picture.shape[1:])).to(generator.device)
    solver = solver_class("ilo")(generator, settings, seed=seed)
    found = solver.invert(picture.to(generator.device), operator, callback=watch)
    return OwnInversion(seen[0], float(psnr(found.x.cpu(), truth)), found.seconds)
