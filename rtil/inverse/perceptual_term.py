"""Compare measurements as pictures, without learning from what is not observed or kept back.

Two ways to treat such pixels:

    ``mask``  they are alike in both pictures: 0 where nothing was observed, the fit's where pixels are kept back,
              without gradient.
    ``fill``  the generated picture, as a whole, is compared with the observed one in whose gaps the generated pixels
              stand (Dean et al. 2020, equation 3). Both sides pass the gradient on.

Where all of the measurement is observed the two are the same.
"""

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.losses import Split
from rtil.inverse.perceptual import is_picture

PerceptualMode = Literal["mask", "fill"]


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
        operator: Anything with ``A``, perhaps with ``observed``.
        y: Measurements [N, 3 or 1, h, w].
        split: See :func:`rtil.inverse.losses.split_heldout`.
        mode: ``mask`` or ``fill``.
    """

    def __init__(
        self, perceptual: PictureDistance, operator: Any, y: Tensor, split: Split | None, mode: PerceptualMode = "mask"
    ) -> None:
        self.perceptual, self.operator = perceptual, operator
        self.observed: Tensor | None = getattr(operator, "observed", None)
        self.kept_back = None if split is None else split.heldout > 0
        self.reference = self._observed(y)
        complete = self.observed is None or bool(self.observed.all())
        self.fills = mode == "fill" and not (complete and self.kept_back is None)

    def __call__(self, x: Tensor) -> Tensor:
        """Return [N] of pictures x [N, 3, R, R] in [0, 1], not clamped."""
        measured = self.operator.A(x)
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
        if self.observed is not None and x.shape == measured.shape:  # a masked picture: x has what the mask took
            generated = torch.where(self.observed, measured, x)
        gaps = torch.zeros((), dtype=torch.bool, device=x.device) if self.observed is None else ~self.observed
        if self.kept_back is not None:
            gaps = gaps | self.kept_back
        return self.perceptual.distance(generated, torch.where(gaps, generated, self.reference))

    def _observed(self, y: Tensor) -> Tensor:
        return y if self.observed is None else torch.where(self.observed, y, 0)


def check_pictures(y: Tensor) -> None:
    """Raise UserError unless the measurements y [N, ...] are colour or grey pictures."""
    if not is_picture(y.shape[1:]):
        raise UserError(
            f"a perceptual term compares pictures but measurements have shape {list(y.shape[1:])}: valid are [3, h, w] "
            "and [1, h, w]; for this operator leave perceptual out"
        )
