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

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.constraints import start_norms
from rtil.inverse.latents import Latents, start_noise
from rtil.inverse.loop import Evaluation, Optimised, Term, measurement_terms, optimise
from rtil.inverse.losses import Split, geodesic, measurement_error
from rtil.inverse.one_cycle import Linear1CycleDrop
from rtil.inverse.result import Inversion, Status
from rtil.inverse.schedules import Schedule
from rtil.inverse.solver import Callback, Solver, check_choice
from rtil.ranges import to_unit

PulseNoise = Literal["trainable", "fixed", "zero"]
GeodesicOf = Literal["ws", "v"]

MOVING_MAPS = 5
UNIT_TO_ERROR = 4
"""The measurement error is that of pictures in [-1, 1], eps that of pictures in [0, 1]."""


class PULSE(Solver):
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
        super().__init__(generator, **options)
        if not isinstance(steps, int) or steps < 0:
            raise UserError(f"steps is {steps}: valid is a whole number of 0 or more")
        for name, value in (("lr", lr), ("eps", eps)):
            if not 0 < value < float("inf"):
                raise UserError(f"{name} is {value}: valid is a positive number")
        if not 0 <= geodesic_weight < float("inf"):
            raise UserError(f"geodesic_weight is {geodesic_weight}: valid is a number >= 0")
        check_choice("geodesic rows", geodesic_of, GeodesicOf)
        check_choice("noise", noise, PulseNoise)
        self.steps, self.lr = steps, lr
        self.geodesic_weight = geodesic_weight
        self.geodesic_of = geodesic_of
        self.noise = noise
        self.largest_error = UNIT_TO_ERROR * eps
        self.clamp = clamp
        self.schedule = schedule or Linear1CycleDrop()

    def attempt(
        self,
        y: Tensor,
        operator: Any,
        split: Split | None,
        latents: Latents,
        image_ids: Sequence[str],
        restart: int,
        callback: Callback | None,
    ) -> Inversion:
        """Optimise once; see :meth:`Solver.attempt`. The latents have ``converged`` too, bool [1, N]."""
        G = self.generator
        noise = self._start_noise(image_ids, restart)
        moving = range(min(MOVING_MAPS, len(noise) - 1)) if self.noise == "trainable" else ()
        variables = {"v": latents.start("normal", image_ids, self.seed, restart)}
        variables |= {f"noise_{i}": noise[i] for i in moving}
        alive = torch.ones(len(y), dtype=torch.bool, device=y.device)
        history: dict[str, Tensor] = {}
        if self.steps:
            with G.computing_in(self.compute_dtype):
                outcome = self._optimise(variables, noise, latents, y, operator, split, alive, callback)
            variables, alive, history = outcome.variables, outcome.alive, outcome.history
        with torch.no_grad(), G.computing_in(None):
            x = to_unit(self._picture(variables, noise, latents))
            score = measurement_error(operator, x, y, None if split is None else split.heldout)
            lowest = measurement_error(operator, x, y, None if split is None else split.fit)
            tensors = {"v": variables["v"], "ws": latents.ws(variables["v"])}
        if history:
            lowest = torch.minimum(lowest, history["measurement"].nan_to_num(torch.inf).amin(1))
        tensors |= {f"noise_{i}": variables.get(f"noise_{i}", fixed) for i, fixed in enumerate(noise)}
        tensors["converged"] = lowest <= self.largest_error
        status: list[Status] = ["ok" if ok else "diverged" for ok in alive.tolist()]
        x = x.clamp(0, 1)
        return Inversion(
            x=x,
            rounds=x[None],
            score=score,
            latents={name: t[None] for name, t in tensors.items()},
            history=history,
            status=status,
            seconds=0.0,
        )

    def _start_noise(self, image_ids: Sequence[str], restart: int) -> list[Tensor]:
        noise = start_noise(self.generator, image_ids, self.seed, restart)
        drawn = 0 if self.noise == "zero" else len(noise) - 1
        return [t if i < drawn else torch.zeros_like(t) for i, t in enumerate(noise)]

    def _optimise(
        self,
        start: dict[str, Tensor],
        noise: list[Tensor],
        latents: Latents,
        y: Tensor,
        operator: Any,
        split: Split | None,
        alive: Tensor,
        callback: Callback | None,
    ) -> Optimised:
        def evaluate(variables: dict[str, Tensor]) -> Evaluation:
            picture = self._picture(variables, noise, latents)
            x = to_unit(picture)
            terms, score = measurement_terms(operator, x, y, split)
            if self.clamp:
                fit = terms["measurement"].value
                terms |= {"measurement": Term(0.0, fit), "clamped": Term(1.0, fit.clamp(min=self.largest_error))}
            if self.geodesic_weight:
                rows = variables["v"] if self.geodesic_of == "v" else latents.ws(variables["v"])
                terms["geodesic"] = Term(self.geodesic_weight, geodesic(rows))
            return Evaluation(picture, terms, score)

        def on_iterate(step: int, picture: Tensor) -> None:
            if callback is not None:
                callback(0, step, to_unit(picture).clamp(0, 1))

        return optimise(
            start,
            evaluate,
            steps=self.steps,
            lr=self.lr,
            schedule=self.schedule,
            alive=alive,
            constraints={name: start_norms(t) for name, t in start.items()},
            keep_last=self.selection == "last",
            on_iterate=on_iterate,
        )

    def _picture(self, variables: dict[str, Tensor], noise: list[Tensor], latents: Latents) -> Tensor:
        """Return the picture of the variables in generator units."""
        maps = [variables.get(f"noise_{i}", fixed) for i, fixed in enumerate(noise)]
        picture: Tensor = self.generator(latents.ws(variables["v"]), maps)
        return picture


def converged(inversion: Inversion) -> Tensor:
    """Return bool [N]: whether an iterate met the measurements within PULSE's eps, in every restart behind x.

    Menon et al. call an image found by its best iterate, which with selection ``measurement`` is the one returned.
    """
    return inversion.latents["converged"].all(0)
