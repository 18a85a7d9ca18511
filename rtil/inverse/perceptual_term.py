"""Compare measurements as pictures, without learning from what is not observed or kept back.

Two ways to treat such pixels:

    ``mask``  they are alike in both pictures: 0 where nothing was observed, the fit's where pixels are kept back,
              without gradient.
    ``fill``  the generated picture, as a whole, is compared with the observed one in whose gaps the generated pixels
              stand (Dean et al. 2020, equation 3). Both sides pass the gradient on.

Where all of the measurement is observed the two are the same.
"""

from typing import Protocol

import torch
from torch import Tensor

from rtil.inverse.problem import Problem
from rtil.inverse.settings import PerceptualMode


class PictureDistance(Protocol):
    """What is needed of :class:`rtil.inverse.perceptual.Perceptual`."""

    def distance(self, x: Tensor, reference: Tensor) -> Tensor:
        """Return [N] of pictures [N, 3 or 1, H, W] in [0, 1]."""


class PerceptualTerm:
    """The distance of A x from y, per image.

    In mode ``mask`` without a split the reference is one tensor, whose features can be kept; else it changes with every
    call.

    Args:
        perceptual: The distance.
        problem: Whose measurements are pictures [N, 3 or 1, h, w].
        mode: ``mask`` or ``fill``.
    """

    def __init__(self, perceptual: PictureDistance, problem: Problem, mode: PerceptualMode) -> None:
        self.perceptual, self.measure = perceptual, problem.operator.A
        self.observed = problem.operator.observed
        self.kept_back = None if problem.split is None else problem.split.heldout > 0
        self.reference = self._observed(problem.y)
        complete = bool(self.observed.all())
        self.fills = mode == "fill" and not (complete and self.kept_back is None)

    def __call__(self, x: Tensor) -> Tensor:
        """Return [N] of pictures x [N, 3, R, R] in [0, 1], not clamped."""
        measured = self.measure(x)
        if self.fills:
            return self._filled(x, measured)
        seen = self._observed(measured)
        if self.kept_back is None:
            return self.perceptual.distance(seen, self.reference)
        fit = seen.detach()
        return self.perceptual.distance(
            torch.where(self.kept_back, fit, seen), torch.where(self.kept_back, fit, self.reference)
        )

    def _filled(self, x: Tensor, measured: Tensor) -> Tensor:
        generated = measured
        if x.shape == measured.shape:  # a masked picture: x has what the mask took
            generated = torch.where(self.observed, measured, x)
        gaps = ~self.observed if self.kept_back is None else ~self.observed | self.kept_back
        return self.perceptual.distance(generated, torch.where(gaps, generated, self.reference))

    def _observed(self, y: Tensor) -> Tensor:
        return torch.where(self.observed, y, 0)
