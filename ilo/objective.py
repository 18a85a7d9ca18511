"""What a round of ILO minimises, as named and weighted terms, each one value per image.

    measurement_weight error(A(x + n), y) + perceptual_weight distance(A(x + n), y)
        + geodesic_weight geodesic(rows) + v_weight ||v||^2 / (2 size) + z1_weight ||z1||^2 / (2 z1_sigma^2 size)

The rows are those of v that move, or of ws to which they are mapped. n is zero, or fresh noise in every step:
stochastic noise addition, for denoising (Dean et al. 2020, equation 4). For the squared error alone it leaves the
expected gradient as it is. Iterates are judged by the measurement error without it, and without all other terms.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ilo.settings import ILOSettings
from rtil import seeds
from rtil.inverse.loop import Evaluation, Term
from rtil.inverse.losses import gaussian_penalty, geodesic
from rtil.inverse.operators.base import Operator
from rtil.inverse.perceptual_term import PerceptualTerm
from rtil.inverse.problem import Problem
from rtil.ranges import to_unit


class Objective:
    """The objective of one batch; a term of weight 0 is not computed, but for the measurement error.

    Args:
        problem: The batch.
        settings: With the weights.
        perceptual: The perceptual term; None without, and then the measurement error has weight 1.
    """

    def __init__(self, problem: Problem, settings: ILOSettings, perceptual: PerceptualTerm | None = None) -> None:
        self.problem, self.settings, self.perceptual = problem, settings, perceptual

    def __call__(self, picture: Tensor, variables: dict[str, Tensor], noise: Tensor | None = None) -> Evaluation:
        """Evaluate a picture.

        Args:
            picture: [N, 3, R, R] in generator units.
            variables: That it was made of: perhaps ``v`` [N, L, D] and ``z1`` [N, C, H, W].
            noise: n, in units of [0, 1]; None for none.
        """
        x, settings = to_unit(picture), self.settings
        weight = 1.0 if self.perceptual is None else settings.measurement_weight
        terms, score = self.problem.measurement_terms(x, noise, weight)
        zero = torch.zeros_like(score)
        if settings.geodesic_weight:
            spread = self._geodesic(variables["v"]) if "v" in variables else zero
            terms["geodesic"] = Term(settings.geodesic_weight, spread)
        if settings.v_weight:
            terms["v"] = Term(settings.v_weight, gaussian_penalty(variables["v"]) if "v" in variables else zero)
        if settings.z1_weight:
            penalty = gaussian_penalty(variables["z1"] / settings.z1_sigma) if "z1" in variables else zero
            terms["z1"] = Term(settings.z1_weight, penalty)
        if self.perceptual is not None:
            distance = self.perceptual(x if noise is None else x + noise)
            terms["perceptual"] = Term(settings.perceptual_weight, distance)
        return Evaluation(picture, terms, score)

    def _geodesic(self, v: Tensor) -> Tensor:
        return geodesic(self.problem.space.ws(v) if self.settings.geodesic_of == "ws" else v)


def resolve_sna_sigma(sna_sigma: float | str | None, operator: Operator) -> float | None:
    """Return the standard deviation of the noise to add, on the 0-255 scale, or None for none.

    Args:
        sna_sigma: A number, ``known`` or None.
        operator: Whose noise ``known`` stands for where it observes every pixel with noise, which is denoising; else
            None.
    """
    if not isinstance(sna_sigma, str):
        return sna_sigma
    sigma = 255 * operator.noise_model.sigma if operator.is_identity else 0.0
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
