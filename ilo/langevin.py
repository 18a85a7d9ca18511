"""Posterior mean and samples by Langevin dynamics over everything that training gave random input.

RTIL trains G with v, noise maps and the deviations z1 at its cuts drawn from Gaussians, so not only where each lies by
itself is known but their prior: (v, noise, z1 / sigma) ~ N(0, I). A measurement error e (:meth:`Operator.error`) makes
it a posterior with potential

    |v|^2 / 2 + sum |noise|^2 / 2 + |z1|^2 / (2 sigma^2) + M e / (2 s^2),    s^2 = misfit^2 + 4 M noise^2 / c,

M entries of the measurement, c the operator's normaliser, ``misfit`` what no picture of G can represent. It is sampled
by :mod:`rtil.inverse.langevin`. The mean of the samples is the estimate of least squared error, their spread tells what
the measurements leave open. SGILO (Daras et al. 2022) samples z1 under a score network trained for it; here the prior
is that of training itself. A vanilla checkpoint was trained without z1; a Gaussian with the variances of its own
features can stand in (:mod:`rtil.inverse.feature_prior`).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ilo.rounds import ILOLatents, deviations_of
from ilo.settings import LangevinSettings
from rtil import seeds
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.feature_prior import colour, feature_factor, whiten
from rtil.inverse.langevin import Chain, Course, run_chain
from rtil.inverse.loop import ROUND, STEP
from rtil.inverse.operators.base import Operator
from rtil.inverse.problem import Problem
from rtil.inverse.result import Inversion
from rtil.inverse.solver import Solver
from rtil.inverse.starts import Shapes
from rtil.layout import trained_cuts
from rtil.ranges import to_unit


class Langevin(Solver):
    """Sample the posterior. Each sample is an attempt of its own: ``combination`` mean returns the posterior mean.

    Arguments are those of :class:`rtil.inverse.solver.Solver`, options those of
    :class:`ilo.settings.LangevinSettings`.
    """

    Settings = LangevinSettings
    Latents = ILOLatents
    settings: LangevinSettings

    def resolved(self, settings: Any) -> Any:
        """Fill in steps, cuts and sigma; see :meth:`Solver.resolved`."""
        known = settings.of_checkpoint({}, [])
        if known.z1_prior != "training" and not known.cuts:
            raise UserError(f"z1_prior '{known.z1_prior}' but no deviation moves: give cuts, such as 1")
        if known.cuts > self.generator.num_blocks:
            raise UserError(
                f"cuts is {known.cuts}: valid is at most {self.generator.num_blocks}, the blocks of this generator"
            )
        return super().resolved(known.changed(steps=known.all_steps()))

    @property
    def cuts(self) -> range:
        """Where deviations move."""
        return range(1, (self.settings.cuts or 0) + 1)

    def iterates(self) -> int:
        """Return the steps; see :meth:`Solver.iterates`."""
        return self.settings.all_steps()

    def start_shapes(self) -> Shapes:
        """Return those of v, the noise maps and the deviations that move; see :meth:`Solver.start_shapes`."""
        return {**super().start_shapes(), **{f"z1_{k}": self.generator.cut_shape(k) for k in self.cuts}}

    def trained_otherwise(self, info: Mapping[str, Any]) -> bool:
        """Return whether deviations move where training had none; see :meth:`Solver.trained_otherwise`."""
        return bool(info.get("rtil")) and len(self.cuts) > trained_cuts(info)

    def attempt(self, problem: Problem) -> Inversion:
        """Return the last sample of a chain; see :meth:`Solver.attempt`."""
        return self.attempts(problem)[-1]

    def attempts(self, problem: Problem) -> list[Inversion]:
        """Return the samples of one chain; see :meth:`Solver.attempts`."""
        G, settings = self.generator, self.settings
        sources = [seeds.generator(problem.seed, "inverse/langevin", i, problem.restart) for i in problem.image_ids]

        def draw(*shape: int) -> Tensor:
            return torch.stack([torch.randn(shape, generator=source) for source in sources]).to(G.device)

        points = _Points(self, problem, draw)
        operator, size = problem.operator, points.start.shape[1]
        entries = int(operator.observed.sum())

        def errors(q: Tensor) -> Tensor:
            return entries * problem.error(to_unit(points.picture(q)))

        watch = problem.watch(0)
        final = total_deviation(settings.misfit, operator)
        course = Course(settings.all_steps(), final, max(settings.hot, final), settings.annealing, settings.step)
        with G.computing_in(self.compute_dtype):
            on_step = None if problem.callback is None else lambda step, q: watch(step, points.picture(q))
            chain = run_chain(points.start, errors, lambda: draw(size), course, settings.kept_steps(), on_step)
        return self._samples(problem, points, chain, entries)

    def _samples(self, problem: Problem, points: "_Points", chain: Chain, entries: int) -> list[Inversion]:
        error = chain.errors / entries
        steps = torch.arange(error.shape[1], device=error.device).expand_as(error).float()
        history = {"measurement": error, "loss": error, ROUND: torch.zeros_like(steps), STEP: steps}
        found = []
        with self.generator.computing_in(None), torch.no_grad():
            for q in chain.kept:
                latents, picture = ILOLatents(points.latents(q)), to_unit(points.picture(q))
                found.append(problem.inversion([picture], latents, history, chain.alive))
        return found


def total_deviation(misfit: float, operator: Operator) -> float:
    """Return s of the module: the misfit and the noise of the measurements, for pictures in [-1, 1].

    Where the operator knows the covariance of both (:attr:`Operator.known_deviation`), it is that.
    """
    if operator.known_deviation is not None:
        return operator.known_deviation
    entries, noise = int(operator.observed.sum()), operator.noise_model.sigma
    return math.sqrt(misfit**2 + 4 * entries * noise**2 / operator.error_normaliser)


class _Points:
    """Everything that moves as one point [N, D] ~ N(0, I), and the way back to latents and pictures."""

    def __init__(self, solver: Langevin, problem: Problem, draw: Any) -> None:
        self.generator: LayeredGenerator = solver.generator
        settings, self.space = solver.settings, problem.space
        assert settings.z1_sigma is not None  # noqa: S101  resolved
        self.factors = {f"z1_{k}": torch.ones(self.generator.cut_shape(k)[0]) for k in solver.cuts}
        if settings.z1_prior != "training":
            self.factors = {f"z1_{k}": feature_factor(self.generator, k, settings.z1_prior) for k in solver.cuts}
        self.factors = {name: settings.z1_sigma * t.to(self.generator.device) for name, t in self.factors.items()}
        noise = problem.start_noise(self.generator)
        start = {"v": problem.start_v()} | {f"noise_{i}": t for i, t in enumerate(noise)}
        for k in solver.cuts:
            given = problem.given.get(f"z1_{k}")
            own = draw(*self.generator.cut_shape(k)) if given is None else whiten(self.factors[f"z1_{k}"], given)
            start[f"z1_{k}"] = own
        self.shapes = {name: t.shape[1:] for name, t in start.items()}
        self.maps = len(noise)
        self.start = torch.cat([t.flatten(1) for t in start.values()], 1)

    def latents(self, q: Tensor) -> dict[str, Tensor]:
        """Return the latents of points, by the names of result files."""
        parts = q.split([math.prod(shape) for shape in self.shapes.values()], 1)
        found = {name: part.unflatten(1, self.shapes[name]) for name, part in zip(self.shapes, parts, strict=True)}
        coloured = {name: colour(factor, found[name]) for name, factor in self.factors.items()}
        return found | coloured | {"ws": self.space.ws(found["v"])}

    def picture(self, q: Tensor) -> Tensor:
        """Return the pictures of points, [N, 3, R, R] in generator units."""
        found = self.latents(q)
        picture: Tensor = self.generator(
            found["ws"], [found[f"noise_{i}"] for i in range(self.maps)], deviations_of(found)
        )
        return picture
