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
        k, sizes = self.axes.shape[1], torch.tensor(bands(self.axes)).diff()
        weights = self.weights.to(linear.device)
        *parts, rest = (
            _by_band(self.axes, found - linear) if sizes.sum() > k else [*_by_band(self.axes, found - linear), 0]
        )
        of_axes = weights[: len(parts)].repeat_interleave(sizes[: len(parts)].to(linear.device))
        moved = (torch.cat(parts, 1) * of_axes) @ self.axes.to(parts[0]).T + weights[-1] * rest
        return linear + moved.to(linear.dtype).unflatten(1, linear.shape[1:])


def bands(axes: Tensor) -> list[int]:
    """Return the edges of bands of axes [n, k]: 0, 1, 2, 4, ..., k, and n if some directions have no axis."""
    n, k = axes.shape
    edges = [0, *(2**power for power in range(k.bit_length()) if 2**power < k), k]
    return edges if k == n else [*edges, n]


def fit_fusion(
    prior: LinearPrior,
    operator: Operator,
    truth: Tensor,
    y: Tensor,
    invert: Callable[[Tensor], Tensor],
) -> Fusion:
    """Measure what a solver adds to the linear prior.

    Args:
        prior: Fitted without these pictures.
        operator: What measured.
        truth: Training pictures [N, C, H, W] in [0, 1].
        y: Their measurements.
        invert: The solver, from measurements to pictures.
    """
    linear = prior.condition(operator)(y).clamp(0, 1)
    return Fusion.fit(prior.axes(), linear, invert(y), truth)


def _by_band(axes: Tensor, x: Tensor) -> list[Tensor]:
    """Return the coordinates [N, axes of the band] of pictures by band, float64; of the last without axes the rest."""
    flat, edges = x.flatten(1).double(), bands(axes)
    k, on_device = axes.shape[1], axes.to(flat)
    coordinates = flat @ on_device
    parts = [coordinates[:, first:last] for first, last in pairwise(edges) if last <= k]
    return parts if edges[-1] == k else [*parts, flat - coordinates @ on_device.T]
