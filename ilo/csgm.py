"""CSGM (Bora et al. 2017): optimise the generator's input only, which is ILO's first round alone."""

from collections.abc import Sequence
from typing import Any

from ilo.ilo import ILO
from rtil.generators.base import LayeredGenerator


class CSGM(ILO):
    """Optimise latents and the first noise maps, in one round.

    Args:
        generator: The prior.
        steps: Steps, or ILO's steps per round, of which it takes the sum.
        options: Those of :class:`ilo.ILO`.
    """

    def __init__(self, generator: LayeredGenerator, steps: int | Sequence[int] = 320, **options: Any) -> None:
        super().__init__(generator, (steps if isinstance(steps, int) else sum(steps),), **options)
