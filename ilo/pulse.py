"""PULSE (Menon, Damian, Hu, Ravi and Rudin, CVPR 2020): search the spheres on which Gaussian latents lie.

    min over v, noise of  100 L2 + 0.05 GEOCROSS,    ||v_row|| and ||noise map|| kept at what they were drawn with

L2 is the mean squared error of A x with pictures in [0, 1]; GEOCROSS the geodesic spread of the style rows, behind the
mapping to ws. On this project's loss scale, where the measurement error is that of pictures in [-1, 1], L2 is a quarter
of it and the loss is 25 (error + 0.002 geodesic). Adam's steps do not see the factor 25, so it is left out: the
geodesic's published weight of 0.05 is 0.002 here.

As in the authors' code each row of v and each noise map has a sphere of its own, the norm over dimensions from the
second on; the first five noise maps move and the last one is zero. PULSE was made for super-resolution, and is CSGM
with other settings for every other task. A picture is always returned: whether it meets the measurements within eps,
without which the authors' code writes none, is told by its latents' ``converged``.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ilo.settings import PULSESettings
from rtil.generators.base import LayeredGenerator
from rtil.inverse.latents import SolverLatents
from rtil.inverse.loop import Term
from rtil.inverse.losses import geodesic
from rtil.inverse.one_round import OneRound, Terms, Variables
from rtil.inverse.problem import Problem
from rtil.inverse.schedules import Linear1CycleDrop, Schedule
from rtil.inverse.starts import Shapes

MOVING_MAPS = 5
UNIT_TO_ERROR = 4
"""The measurement error is that of pictures in [-1, 1], eps that of pictures in [0, 1]."""


class PULSELatents(SolverLatents):
    """Latents, noise maps, and ``converged``, bool [S, N]: whether an iterate met the measurements within eps.

    Menon et al. call an image found by its best iterate, which with selection ``measurement`` is the one returned.
    """

    OTHER_TYPES = {"converged": torch.bool}  # noqa: RUF012

    @property
    def converged(self) -> list[bool]:
        """Whether every attempt at an image did, N times."""
        found: list[bool] = self["converged"].all(0).tolist()
        return found

    def image_shapes(self, generator: LayeredGenerator) -> Shapes:
        """Return those of all, and of ``converged``; see :meth:`SolverLatents.image_shapes`."""
        return {**super().image_shapes(generator), "converged": ()}


class PULSE(OneRound):
    """Optimise latents and the first noise maps on their spheres, in one round.

    Where the generator's latent space is z itself (PGGAN), the sphere is that of z. Arguments are those of
    :class:`rtil.inverse.solver.Solver`, options those of :class:`ilo.settings.PULSESettings`.
    """

    Settings = PULSESettings
    Latents = PULSELatents
    STEPS = 100

    @property
    def schedule(self) -> Schedule:
        """PULSE's own."""
        return Linear1CycleDrop()

    def _moving_maps(self) -> Sequence[int]:
        maps = len(self.generator.noise_shapes())
        return range(min(MOVING_MAPS, maps - 1)) if self.settings.noise == "trainable" else ()

    def _start_noise(self, problem: Problem) -> list[Tensor]:
        noise = super()._start_noise(problem)
        drawn = 0 if self.settings.noise == "zero" else len(noise) - 1
        return [t if i < drawn or f"noise_{i}" in problem.given else torch.zeros_like(t) for i, t in enumerate(noise)]

    def _terms(self, problem: Problem) -> Terms:
        settings = self.settings

        def terms_at(x: Tensor, variables: Variables) -> tuple[dict[str, Term], Tensor]:
            terms, score = problem.measurement_terms(x)
            if settings.clamp:
                fit = terms["measurement"].value
                largest = UNIT_TO_ERROR * settings.eps
                terms |= {"measurement": Term(0.0, fit), "clamped": Term(1.0, fit.clamp(min=largest))}
            if settings.geodesic_weight:
                rows = variables["v"] if settings.geodesic_of == "v" else problem.space.ws(variables["v"])
                terms["geodesic"] = Term(settings.geodesic_weight, geodesic(rows))
            return terms, score

        return terms_at

    def _found(
        self, problem: Problem, variables: Variables, x: Tensor, history: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        lowest = problem.error(x)
        if history:
            lowest = torch.minimum(lowest, history["measurement"].nan_to_num(torch.inf).amin(1))
        met = lowest <= UNIT_TO_ERROR * self.settings.eps
        return super()._found(problem, variables, x, history) | {"converged": met}
