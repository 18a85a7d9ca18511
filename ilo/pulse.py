"""PULSE (Menon, Damian, Hu, Ravi and Rudin, CVPR 2020): search the spheres on which Gaussian latents lie.

    min over v, noise of  100 L2 + 0.05 GEOCROSS,    ||v_row|| and ||noise map|| kept at what they were drawn with

L2 is the mean squared error of A x with pictures in [0, 1]; GEOCROSS the geodesic spread of the style rows, behind the
mapping to ws. On this project's loss scale, where the measurement error is that of pictures in [-1, 1], L2 is a quarter
of it and the loss is 25 (error + 0.002 geodesic). Adam's steps do not see the factor 25, so it is left out: the
geodesic's published weight of 0.05 is 0.002 here.

As in the authors' code each row of v and each noise map has a sphere of its own, the norm over dimensions from the
second on; the first five noise maps move and the last one is zero. PULSE was made for super-resolution, and is CSGM
with other settings for every other task. A picture is always returned: whether it meets the measurements within eps,
without which the authors' code writes none, is told by :func:`converged`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ilo.objective import GeodesicOf
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.latents import Latents
from rtil.inverse.loop import Term, measurement_terms
from rtil.inverse.losses import geodesic
from rtil.inverse.one_cycle import Linear1CycleDrop
from rtil.inverse.one_round import Objective, OneRound, Variables
from rtil.inverse.problem import Problem
from rtil.inverse.result import CONVERGED, Inversion
from rtil.inverse.schedules import Schedule
from rtil.inverse.solver import check_choice
from rtil.inverse.starts import Shapes, noise_start_shapes, row_shape

PulseNoise = Literal["trainable", "fixed", "zero"]

MOVING_MAPS = 5
UNIT_TO_ERROR = 4
"""The measurement error is that of pictures in [-1, 1], eps that of pictures in [0, 1]."""


class PULSE(OneRound):
    """Optimise latents and the first noise maps on their spheres, in one round.

    Args:
        generator: The prior. Where its latent space is z itself (PGGAN), the sphere is that of z.
        steps: Adam steps; 0 returns the start.
        lr: Peak learning rate.
        geodesic_weight: Weight of the geodesic term beside the measurement error.
        geodesic_of: The rows that it compares: ``ws`` (PULSE) or ``v``, before the mapping (ILO).
        noise: ``trainable`` (the first five maps move), ``fixed`` (none does) or ``zero`` (no noise). The last map is
            always zero and does not move, also where it is one of the first five.
        eps: Mean squared error of A x, pictures in [0, 1], up to which an image counts as converged.
        clamp: Whether errors below eps count as eps, so that a converged image is moved by the geodesic term alone, as
            in the authors' code. Selection sees the error itself.
        schedule: Course of the learning rate; None is the authors' :class:`Linear1CycleDrop`.
        options: Those of :class:`rtil.inverse.solver.Solver`: selection, seed, precision, restarts, combination,
            batch_size.

    Raises:
        UserError: An option is not valid.
    """

    def __init__(
        self,
        generator: LayeredGenerator,
        steps: int = 100,
        lr: float = 0.4,
        *,
        geodesic_weight: float = 0.002,
        geodesic_of: GeodesicOf = "ws",
        noise: PulseNoise = "trainable",
        eps: float = 2e-3,
        clamp: bool = False,
        schedule: Schedule | None = None,
        **options: Any,
    ) -> None:
        moving_maps = range(min(MOVING_MAPS, len(generator.noise_shapes()) - 1)) if noise == "trainable" else ()
        super().__init__(generator, steps, lr, schedule or Linear1CycleDrop(), moving_maps, **options)
        if not 0 < eps < float("inf"):
            raise UserError(f"eps is {eps}: valid is a positive number")
        if not 0 <= geodesic_weight < float("inf"):
            raise UserError(f"geodesic_weight is {geodesic_weight}: valid is a number >= 0")
        check_choice("geodesic rows", geodesic_of, GeodesicOf)
        check_choice("noise", noise, PulseNoise)
        self.geodesic_weight = geodesic_weight
        self.geodesic_of = geodesic_of
        self.noise = noise
        self.largest_error = UNIT_TO_ERROR * eps
        self.clamp = clamp

    def start_shapes(self) -> Shapes:
        """Return those of v and of the noise maps; see :meth:`Solver.start_shapes`."""
        return {"v": row_shape(self.generator), **noise_start_shapes(self.generator)}

    def _start(self, problem: Problem) -> Variables:
        return {"v": problem.start_v()}

    def _start_noise(self, problem: Problem) -> list[Tensor]:
        noise = super()._start_noise(problem)
        drawn = 0 if self.noise == "zero" else len(noise) - 1
        return [t if i < drawn or f"noise_{i}" in problem.given else torch.zeros_like(t) for i, t in enumerate(noise)]

    def _objective(self, problem: Problem) -> Objective:
        def terms_at(x: Tensor, variables: Variables) -> tuple[dict[str, Term], Tensor]:
            terms, score = measurement_terms(problem.operator, x, problem.y, problem.split)
            if self.clamp:
                fit = terms["measurement"].value
                terms |= {"measurement": Term(0.0, fit), "clamped": Term(1.0, fit.clamp(min=self.largest_error))}
            if self.geodesic_weight:
                rows = variables["v"] if self.geodesic_of == "v" else problem.latents.ws(variables["v"])
                terms["geodesic"] = Term(self.geodesic_weight, geodesic(rows))
            return terms, score

        return terms_at

    def _on_sphere(self, name: str) -> bool:
        return True

    def _found(
        self, problem: Problem, variables: Variables, x: Tensor, history: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return v, ws and ``converged``, bool [N]."""
        lowest = problem.error(x)
        if history:
            lowest = torch.minimum(lowest, history["measurement"].nan_to_num(torch.inf).amin(1))
        v = variables["v"]
        return {"v": v, "ws": problem.latents.ws(v), CONVERGED: lowest <= self.largest_error}

    def _picture(self, variables: Variables, noise: list[Tensor], latents: Latents) -> Tensor:
        """Return the picture of the variables in generator units."""
        maps = [variables.get(f"noise_{i}", fixed) for i, fixed in enumerate(noise)]
        picture: Tensor = self.generator(latents.ws(variables["v"]), maps)
        return picture


def converged(inversion: Inversion) -> Tensor:
    """Return bool [N]: whether an iterate met the measurements within PULSE's eps, in every restart behind x.

    Menon et al. call an image found by its best iterate, which with selection ``measurement`` is the one returned.
    """
    return inversion.latents[CONVERGED].all(0)
