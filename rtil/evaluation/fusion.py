"""Fusion: a solver's picture and the linear prior's, each where it is the better one.

The linear prior's posterior mean x_lin is sure of the few directions in which pictures vary most, a GAN knows what the
others have to do with them. Of all estimates that mix both band by band of the principal axes of the training pictures,

    x = x_lin + sum_b w_b P_b (x_gan - x_lin),        bands of 1, 1, 2, 4, 8, ... axes, largest variance first,

the best in mean squared error has w_b = <P_b (truth - x_lin), P_b (x_gan - x_lin)> / |P_b (x_gan - x_lin)|^2. These are
fitted to training pictures that are measured by the same operator and inverted by the same solver, against a linear
prior fitted without them; it has no such advantage on held-out pictures either. What x_gan does not know in addition
gets no weight: with a constant in its place this is the linear prior.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from rtil.evaluation.linear_prior import LinearPrior
from rtil.inverse.operators import Operator


@dataclass(frozen=True)
class Fusion:
    """The weights of one solver and operator.

    Attributes:
        axes: Orthonormal columns [n, k], n = C H W, largest variance first; what is orthogonal to all is a band too.
        weights: w_b in [0, 1], float64, one for each of :func:`bands`.
    """

    axes: Tensor
    weights: Tensor

    @classmethod
    def fit(cls, axes: Tensor, linear: Tensor, found: Tensor, truth: Tensor) -> "Fusion":
        """Fit the weights to training pictures.

        Args:
            axes: See the class.
            linear: x_lin of each, [N, C, H, W].
            found: x_gan.
            truth: The pictures.
        """
        wanted, offered = (_by_band(axes, x - linear) for x in (truth, found))
        products = [(a * b).sum() / b.square().sum().clamp(min=1e-30) for a, b in zip(wanted, offered, strict=True)]
        return cls(axes, torch.stack(products).clamp(0, 1).cpu())

    def __call__(self, linear: Tensor, found: Tensor) -> Tensor:
        """Return pictures [N, C, H, W], not clamped, from x_lin and x_gan."""
        coordinates, rest = _split(self.axes, found - linear)
        sizes, weights = _sizes(self.axes), self.weights.to(coordinates)
        of_axes = weights[: len(sizes)].repeat_interleave(torch.tensor(sizes, device=weights.device))
        moved = (coordinates * of_axes) @ self.axes.to(coordinates).T + weights[-1] * rest
        return linear + moved.to(linear.dtype).unflatten(1, linear.shape[1:])


def bands(axes: Tensor) -> list[int]:
    """Return the edges of bands of axes [n, k]: 0, 1, 2, 4, ..., k, and n if some directions have no axis."""
    n, k = axes.shape
    edges = [0, *(2**power for power in range(k.bit_length()) if 2**power < k), k]
    return edges if k == n else [*edges, n]


def fit_fusion(
    prior: LinearPrior,
    axes: Tensor,
    operator: Operator,
    truth: Tensor,
    y: Tensor,
    invert: Callable[[Tensor], Tensor],
) -> Fusion:
    """Measure what a solver adds to the linear prior.

    Args:
        prior: Fitted without these pictures.
        axes: See :class:`Fusion`.
        operator: What measured.
        truth: Training pictures [N, C, H, W] in [0, 1].
        y: Their measurements.
        invert: The solver, from measurements to pictures.
    """
    linear = prior.condition(operator)(y).clamp(0, 1)
    return Fusion.fit(axes, linear, invert(y), truth)


def _sizes(axes: Tensor) -> list[int]:
    """Return how many axes the bands have, without that of no axis."""
    return [last - first for first, last in pairwise(bands(axes)) if last <= axes.shape[1]]


def _split(axes: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coordinates [N, k] of pictures, float64, and what is orthogonal to all axes, [N, n]."""
    flat = x.flatten(1).double()
    coordinates = flat @ axes.to(flat)
    k_is_n = axes.shape[0] == axes.shape[1]
    return coordinates, torch.zeros_like(flat) if k_is_n else flat - coordinates @ axes.to(flat).T


def _by_band(axes: Tensor, x: Tensor) -> list[Tensor]:
    """Return the part of pictures in each band, float64 [N, ...]."""
    coordinates, rest = _split(axes, x)
    parts = list(coordinates.split(_sizes(axes), 1))
    return parts if axes.shape[0] == axes.shape[1] else [*parts, rest]
