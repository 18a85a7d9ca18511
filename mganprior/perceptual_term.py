"""Compare measurements as pictures, without looking at what is not observed or kept back."""

from typing import Any, Protocol

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.losses import Split
from rtil.inverse.perceptual import is_picture


class PictureDistance(Protocol):
    """What is needed of :class:`rtil.inverse.perceptual.Perceptual`."""

    def distance(self, x: Tensor, reference: Tensor) -> Tensor:
        """Return [N] of pictures [N, 3 or 1, H, W] in [0, 1]."""


class PerceptualTerm:
    """The distance of A x from y, per image.

    What is not observed is 0 in both. What the split keeps back shows the fit in both, without gradient, so that it
    cannot tell of y; the reference then changes with every call, else it is one tensor whose features can be kept.

    Args:
        perceptual: The distance.
        operator: Anything with ``A``, perhaps with ``observed``.
        y: Measurements [N, 3 or 1, h, w].
        split: See :func:`rtil.inverse.losses.split_heldout`.
    """

    def __init__(self, perceptual: PictureDistance, operator: Any, y: Tensor, split: Split | None) -> None:
        self.perceptual, self.operator = perceptual, operator
        self.reference = self._observed(y)
        self.kept_back = None if split is None else split.heldout > 0

    def __call__(self, x: Tensor) -> Tensor:
        """Return [N] of pictures x [N, 3, R, R] in [0, 1], not clamped."""
        seen = self._observed(self.operator.A(x))
        if self.kept_back is None:
            return self.perceptual.distance(seen, self.reference)
        fit = seen.detach()
        return self.perceptual.distance(
            torch.where(self.kept_back, fit, seen), torch.where(self.kept_back, fit, self.reference)
        )

    def _observed(self, y: Tensor) -> Tensor:
        observed = getattr(self.operator, "observed", None)
        return y if observed is None else torch.where(observed, y, 0)


def check_pictures(y: Tensor) -> None:
    """Raise UserError unless the measurements y [N, ...] are colour or grey pictures."""
    if not is_picture(y.shape[1:]):
        raise UserError(
            f"a perceptual term compares pictures but measurements have shape {list(y.shape[1:])}: valid are [3, h, w] "
            "and [1, h, w]; for this operator leave perceptual out"
        )
