"""Stein's unbiased risk estimate: how far a denoised picture is from the truth, without the truth.

Of y = x + N(0, s^2 I) with n entries and any (weakly differentiable) estimator h (Stein 1981),

    E |h(y) - x|^2 / n  =  E [ |h(y) - y|^2 / n - s^2 + 2 s^2 / n div h(y) ],

and the divergence is that of one random direction b ~ N(0, I) in expectation (Ramani, Blu and Unser 2008, equation 8),

    div h(y)  ~  b^T (h(y + e b) - h(y)) / e.

An iterate of a solver is such an h: it is computed twice, from y and from y + e b, with the same starts and draws, as
two images side by side. Which iterate is taken must be the same for both, so both have the same estimate. Where y was
clipped to [0, 1], entries near the ends have less noise than is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rtil import seeds

STEP = 0.1
"""e, as a share of s: small against the noise, and large against the rounding of some hundred steps."""


@dataclass(frozen=True, eq=False)
class Twins:
    """Measurements and, behind them, their neighbours.

    Attributes:
        y: [N, C, H, W], pictures in [0, 1] with noise.
        direction: b, of the same shape.
        sigma: s.
    """

    y: Tensor
    direction: Tensor
    sigma: float

    @classmethod
    def of(cls, y: Tensor, sigma: float, image_ids: Sequence[str], seed: int, restart: int) -> "Twins":
        """Draw the direction of each image by its name."""
        draws = [
            torch.randn(y.shape[1:], generator=seeds.generator(seed, "inverse/sure", name, restart))
            for name in image_ids
        ]
        return cls(y, torch.stack(draws).to(y), sigma)

    @property
    def both(self) -> Tensor:
        """The measurements and their neighbours, [2 N, C, H, W]."""
        return torch.cat([self.y, self.y + STEP * self.sigma * self.direction])

    @torch.no_grad()
    def estimate(self, x: Tensor) -> Tensor:
        """Return the estimated mean squared error of pictures in generator units, [2 N], for each pair twice.

        Args:
            x: What was found of :attr:`both`, [2 N, C, H, W] in [0, 1], not clamped.
        """
        found, neighbour = x.float().clamp(0, 1).chunk(2)
        n = found[0].numel()
        difference = (neighbour - found) / (STEP * self.sigma)
        divergence = (self.direction * difference).flatten(1).sum(1)
        residual = (found - self.y).square().flatten(1).sum(1)
        risk = 4 * (residual / n - self.sigma**2 + 2 * self.sigma**2 / n * divergence)
        return risk.repeat(2)
