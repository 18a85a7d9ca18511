"""Sparse deviations of the picture (Dhar, Grover and Ermon, ICML 2018) as ILO's last cut, behind the last ToRGB.

    min over nu, v, noise, z1 of  error(A (G + nu), y)    with ||nu||_1 <= radius,    nu [N, 3, R, R]

The state at that cut is the picture itself, so nu is to it what z1 is to a feature. Nothing acts behind it: with the
picture fixed, the problem in nu is convex for a linear A. So after the rounds of ILO, CSGM or PULSE the two sides
alternate: nu by accelerated projected gradients (FISTA; Beck and Teboulle 2009), then what the last of those rounds
moved, by Adam, with nu fixed. Each starts at the other's result, and a pair of steps that does not lower an image's
error is not taken. Dhar et al. penalise ||nu||_1, in place of bounding it, and descend on both sides at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ilo.csgm import CSGM
from ilo.ilo import ILO
from ilo.pulse import PULSE
from ilo.rounds import ILOLatents, Point, Variables, render
from ilo.settings import SparseSettings
from rtil.generators.base import LayeredGenerator
from rtil.inverse.constraints import start_norms
from rtil.inverse.l1_ball import project_l1
from rtil.inverse.loop import MOVING, RANGE, Evaluation, Optimised, optimise
from rtil.inverse.operators.base import Operator
from rtil.inverse.problem import Problem
from rtil.inverse.result import Inversion
from rtil.inverse.settings import PerceptualChoice
from rtil.inverse.solver import Solver
from rtil.inverse.starts import Shapes
from rtil.ranges import to_unit

NU = "nu"
RADIUS_PER_ENTRY = 0.02
INNER: Mapping[str, type[Solver]] = {"ilo": ILO, "csgm": CSGM, "pulse": PULSE}
"""Solvers that have one code per image, and so a last cut."""


class SparseLatents(ILOLatents):
    """Those of ILO, and ``nu``."""

    @property
    def nu(self) -> Tensor:
        """The deviations of the pictures in generator units, [S, N, 3, R, R]."""
        return self[NU]

    def image_shapes(self, generator: LayeredGenerator) -> Shapes:
        """Return those of ILO, and of ``nu``; see :meth:`SolverLatents.image_shapes`."""
        return {**super().image_shapes(generator), NU: (3, generator.resolution, generator.resolution)}

    def picture(self, generator: LayeredGenerator, chunk: int) -> Tensor:
        """Return the pictures with their deviations; see :meth:`SolverLatents.picture`."""
        return super().picture(generator, chunk) + self.nu


class SparseDeviation(Solver):
    """Add a sparse deviation to the pictures that another solver, :attr:`inner`, finds.

    Arguments are those of :class:`rtil.inverse.solver.Solver`, options those of :class:`ilo.settings.SparseSettings`.
    """

    Settings = SparseSettings
    Latents = SparseLatents
    settings: SparseSettings

    def resolved(self, settings: Any) -> Any:
        """Fill in the radius, and the settings of the method before; see :meth:`Solver.resolved`."""
        if settings.selection == "auto":  # the deviation is fitted to all that was measured
            settings = settings.changed(selection="measurement")
        settings = super().resolved(settings.completed())
        radius = RADIUS_PER_ENTRY * 3 * self.generator.resolution**2 if settings.radius is None else settings.radius
        inner = self._of_inner(settings)
        return settings.changed(radius=radius, before=inner.settings)

    @cached_property
    def inner(self) -> Solver:
        """What runs before."""
        return self._of_inner(self.settings)

    def _of_inner(self, settings: SparseSettings) -> Solver:
        solver = INNER[settings.inner]
        return solver(self.generator, settings.before, seed=self.seed, distance=self.own_distance)

    @property
    def perceptual(self) -> PerceptualChoice:
        """That of ``inner``."""
        return self.inner.perceptual

    def settings_for(self, operator: Operator) -> Any:
        """Return the settings that act on measurements by an operator; see :meth:`Solver.settings_for`."""
        return self.settings.changed(before=self.inner.settings_for(operator))

    def has_perceptual_term(self, operator: Operator) -> bool:
        """Return what ``inner`` says; see :meth:`Solver.has_perceptual_term`."""
        return self.inner.has_perceptual_term(operator)

    def trained_otherwise(self, info: Mapping[str, Any]) -> bool:
        """Return what ``inner`` says: deviations lie behind the generator; see :meth:`Solver.trained_otherwise`."""
        return self.inner.trained_otherwise(info)

    def start_shapes(self) -> Shapes:
        """Return those of ``inner``, and of ``nu``; see :meth:`Solver.start_shapes`."""
        side = self.generator.resolution
        return {**self.inner.start_shapes(), NU: (3, side, side)}

    def check_start(self, start_from: Mapping[str, Tensor], images: int) -> None:
        """Raise UserError unless an inversion of so many images can start there; see :meth:`Solver.check_start`."""
        super().check_start(start_from, images)
        of_inner = {name: t for name, t in start_from.items() if name in self.inner.start_shapes()}
        if of_inner:
            self.inner.check_start(of_inner, images)

    def iterates(self) -> int | None:
        """Return those of ``inner``, of the alternations, and the result; see :meth:`Solver.iterates`."""
        inner, settings = self.inner.iterates(), self.settings
        return None if inner is None else inner + settings.alternations * (settings.steps + 1) + 1

    def attempt(self, problem: Problem) -> Inversion:
        """Run ``inner``, then the alternations; see :meth:`Solver.attempt`. The latents have ``nu`` too.

        A ``nu`` that is given is where the first of its steps starts, moved into the ball; ``inner`` does not see it.
        """
        G, space, settings = self.generator, problem.space, self.settings
        inner = self.inner.attempt(problem)
        first_round = len(inner.rounds)
        point, score = Point.of(G, space, inner.latents.mapped(lambda t: t[0])), inner.score
        alive = torch.tensor([s == "ok" for s in inner.status], device=problem.y.device)
        rounds, histories = list(inner.rounds), [inner.history] if inner.history else []
        with G.computing_in(None):
            picture = render(G, space, point)
        nu = project_l1(problem.given[NU], self.radius) if NU in problem.given else torch.zeros_like(picture)

        for t in range(settings.alternations + 1):
            trial = point
            if t:
                moving = Variables(G, space, point, settings.following().noise)
                with G.computing_in(self.compute_dtype):
                    outcome = self._follow(moving, nu, problem, alive, first_round + t)
                trial, alive = moving.point_of(outcome.variables), outcome.alive
                histories.append(outcome.history)
            with G.computing_in(None):
                trial_picture = render(G, space, trial)
            trial_nu = self._deviate(trial_picture, nu, problem, alive)
            with torch.no_grad():
                trial_score = problem.error(to_unit(trial_picture + trial_nu), heldout=True)
            taken = alive & trial_score.isfinite()
            if settings.selection != "last":
                taken = taken & (trial_score < score)
            point = _where(taken, trial, point)
            picture, nu, score = (
                _pick(taken, new, old) for new, old in ((trial_picture, picture), (trial_nu, nu), (trial_score, score))
            )
            rounds.append(to_unit(picture + nu))
        if problem.callback is not None:
            problem.callback(first_round + settings.alternations + 1, 0, rounds[-1].clamp(0, 1))
        latents = SparseLatents(point.latents(space) | {NU: nu})
        return problem.inversion(rounds, latents, _joined(histories), alive, score)

    @property
    def radius(self) -> float:
        """Largest sum of |nu| over the entries of an image, in generator units."""
        assert self.settings.radius is not None  # noqa: S101  resolved
        return self.settings.radius

    def _follow(self, moving: Variables, nu: Tensor, problem: Problem, alive: Tensor, number: int) -> Optimised:
        """Move what the last round of ``inner`` moved, with nu fixed."""

        def evaluate(variables: dict[str, Tensor]) -> Evaluation:
            picture = moving.picture(variables) + nu
            return Evaluation(picture, *problem.measurement_terms(to_unit(picture)))

        start, like = moving.start, self.settings.following()
        return optimise(
            start,
            evaluate,
            steps=self.settings.steps,
            lr=like.lrs()[-1],
            schedule=like.ramp,
            alive=alive,
            constraints={name: start_norms(t) for name, t in start.items() if like.sphere and name != "z1"},
            keep_last=self.settings.selection == "last",
            on_iterate=problem.watch(number),
        )

    def _deviate(self, picture: Tensor, nu: Tensor, problem: Problem, alive: Tensor) -> Tensor:
        def error(deviation: Tensor) -> Tensor:
            return problem.error(to_unit(picture + deviation))

        return minimise_in_ball(error, nu, self.radius, self.settings.sparse_steps, alive)


def minimise_in_ball(
    error: Callable[[Tensor], Tensor], start: Tensor, radius: float, steps: int, alive: Tensor
) -> Tensor:
    """Lower an error within the l1 ball around zero by FISTA, image by image, never above its value at the start.

    Each image has its own step size, halved whenever the quadratic bound on the error fails, and forgets its momentum
    when the error rises.

    Args:
        error: Of deviations [N, ...], [N]; differentiable, image by image.
        start: [N, ...], within the ball.
        radius: Of the ball.
        steps: Gradients.
        alive: bool [N]; the others stay where they are.
    """
    best = ahead = start.detach()
    with torch.no_grad():
        lowest = error(best)
    momentum = torch.ones_like(lowest)
    size = torch.full_like(lowest, start[0].numel())
    for _ in range(steps):
        point = ahead.clone().requires_grad_()
        with torch.enable_grad():
            here = error(point)
            (gradient,) = torch.autograd.grad(here.sum(), point)
        with torch.no_grad():
            trial = project_l1((ahead - _per_image(size, ahead) * gradient).nan_to_num(0, 0, 0), radius)
            move = trial - ahead
            bound = here + (gradient * move + move.square() / (2 * _per_image(size, move))).flatten(1).sum(1)
            value = error(trial)
            bounded = value <= bound + 1e-6 * here.abs()
            better = alive & bounded & (value < lowest)
            faster = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
            onward = trial + _per_image((momentum - 1) / faster, trial) * (trial - best)
            stay = _pick(bounded, best, ahead)
            ahead, best = _pick(better, onward, stay), _pick(better, trial, best)
            momentum = torch.where(better, faster, torch.where(bounded, 1.0, momentum))
            lowest, size = torch.where(better, value, lowest), torch.where(bounded, size, size / 2)
    return best


def _where(flags: Tensor, new: Point, old: Point) -> Point:
    return replace(
        new,
        v=_pick(flags, new.v, old.v),
        noise=[_pick(flags, n, o) for n, o in zip(new.noise, old.noise, strict=True)],
        z1={k: _pick(flags, z1, old.z1[k]) for k, z1 in new.z1.items()},
    )


def _pick(flags: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(_per_image(flags, new), new, old)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _joined(histories: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return one course of those of ``inner`` and the alternations, [N, steps] each; what one lacks is NaN there.

    Alternations have no plateau: all steps are taken.
    """

    def filled(name: str, history: Mapping[str, Tensor]) -> Tensor:
        return torch.full_like(history["measurement"], 1.0 if name == MOVING else torch.nan)

    names = dict.fromkeys(name for history in histories for name in history if name != RANGE)
    joined = {name: torch.cat([h[name] if name in h else filled(name, h) for h in histories], 1) for name in names}
    distances = {name: history[name] for history in histories for name in history if name == RANGE}
    return joined | distances
