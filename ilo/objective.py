"""What a round of ILO minimises, as named and weighted terms, each one value per image.

    measurement_weight error(A(x + n), y) + perceptual_weight distance(A(x + n), y)
        + geodesic_weight geodesic(rows) + z1_weight ||z1||^2 / (2 z1_sigma^2 size)

The rows are those of v that move, or of ws to which they are mapped. n is zero, or fresh noise in every step:
stochastic noise addition, for denoising (Dean et al. 2020, equation 4). For the squared error alone it leaves the
expected gradient as it is. Iterates are judged by the measurement error without it, and without all other terms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rtil import seeds
from rtil.inverse.loop import Evaluation, Term
from rtil.inverse.losses import Split, gaussian_penalty, geodesic, measurement_error
from rtil.inverse.operators.simple import Identity
from rtil.inverse.perceptual_term import PerceptualTerm
from rtil.ranges import to_unit

GeodesicOf = Literal["ws", "v"]
"""The style rows that the geodesic term compares: behind the mapping (PULSE), or before it (ILO)."""
Known = Literal["known"]
SNASigma = float | Known | None
"""Noise on the 0-255 scale, that of the operator, or none."""


@dataclass(frozen=True)
class Weights:
    """Weights of the terms; a term of weight 0 is not computed, but for the measurement error."""

    measurement: float = 1.0
    geodesic: float = 0.0
    z1: float = 0.0
    perceptual: float = 0.0


class Objective:
    """The objective of one batch.

    Args:
        operator: Anything with ``A``.
        y: Measurements [N, ...].
        split: Entries to fit to and to judge by; None where all serve both.
        weights: Of the terms.
        z1_sigma: Standard deviation of z1's prior.
        perceptual: The perceptual term; None without, and then the measurement error has weight 1.
        rows_of: Map of v to the rows that the geodesic term compares; None for v itself.
    """

    def __init__(
        self,
        operator: Any,
        y: Tensor,
        split: Split | None,
        weights: Weights,
        z1_sigma: float = 1.0,
        perceptual: PerceptualTerm | None = None,
        rows_of: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.operator, self.y, self.split = operator, y, split
        self.weights, self.z1_sigma, self.perceptual, self.rows_of = weights, z1_sigma, perceptual, rows_of

    def __call__(self, picture: Tensor, variables: dict[str, Tensor], noise: Tensor | None = None) -> Evaluation:
        """Evaluate a picture.

        Args:
            picture: [N, 3, R, R] in generator units.
            variables: That it was made of: perhaps ``v`` [N, L, D] and ``z1`` [N, C, H, W].
            noise: n, in units of [0, 1]; None for none.
        """
        x = to_unit(picture)
        compared = x if noise is None else x + noise
        fitted = self._error(compared, fit=True)
        terms = {"measurement": Term(1.0 if self.perceptual is None else self.weights.measurement, fitted)}
        score = fitted.detach()
        with torch.no_grad():
            if noise is not None:
                score = self._error(x, fit=True)
                terms["noise_free"] = Term(0.0, score)
            if self.split is not None:
                score = self._error(x, fit=False)
                terms["heldout"] = Term(0.0, score)
        zero = torch.zeros_like(score)
        if self.weights.geodesic:
            spread = self._geodesic(variables["v"]) if "v" in variables else zero
            terms["geodesic"] = Term(self.weights.geodesic, spread)
        if self.weights.z1:
            penalty = gaussian_penalty(variables["z1"] / self.z1_sigma) if "z1" in variables else zero
            terms["z1"] = Term(self.weights.z1, penalty)
        if self.perceptual is not None:
            terms["perceptual"] = Term(self.weights.perceptual, self.perceptual(compared))
        return Evaluation(picture, terms, score)

    def _geodesic(self, v: Tensor) -> Tensor:
        return geodesic(v if self.rows_of is None else self.rows_of(v))

    def _error(self, x: Tensor, fit: bool) -> Tensor:
        weight = None if self.split is None else self.split.fit if fit else self.split.heldout
        return measurement_error(self.operator, x, self.y, weight)


def resolve_sna_sigma(sna_sigma: SNASigma, operator: Any) -> float | None:
    """Return the standard deviation of the noise to add, on the 0-255 scale, or None for none.

    Args:
        sna_sigma: A number, ``known`` or None.
        operator: Whose noise ``known`` stands for where it observes every pixel with noise, which is denoising; else
            None.
    """
    if not isinstance(sna_sigma, str):
        return sna_sigma
    sigma = 255 * operator.noise_model.sigma if isinstance(operator, Identity) else 0.0
    return sigma or None


class StochasticNoise:
    """Fresh noise for every step, drawn for each image by its name.

    Args:
        sigma: Standard deviation on the 0-255 scale.
        image_ids: One name per image.
        seed: Root seed.
        restart: Number of the attempt.
    """

    def __init__(self, sigma: float, image_ids: Sequence[str], seed: int, restart: int) -> None:
        self.sigma, self.image_ids, self.seed, self.restart = sigma, image_ids, seed, restart

    def draw(self, like: Tensor, round_index: int, step: int) -> Tensor:
        """Return noise for pictures [N, 3, R, R], in units of [0, 1].

        It is drawn on the CPU, so that it is the same on every device; from pinned memory it goes to a GPU while the
        step's other work is queued.
        """
        place = self.restart, round_index, step
        noise = torch.empty(like.shape, pin_memory=like.is_cuda)
        for image, name in zip(noise, self.image_ids, strict=True):
            image.normal_(generator=seeds.generator(self.seed, "inverse/sna", name, *place))
        return noise.to(like, non_blocking=True) * (self.sigma / 255)
