"""Sparse deviations of the picture (Dhar, Grover and Ermon, ICML 2018) as ILO's last cut, behind the last ToRGB.

    min over nu, v, noise, z1 of  error(A (G + nu), y)    with ||nu||_1 <= radius,    nu [N, 3, R, R]

The state at that cut is the picture itself, so nu is to it what z1 is to a feature. Nothing acts behind it: with the
picture fixed, the problem in nu is convex for a linear A. So after the rounds of ILO, CSGM or PULSE the two sides
alternate: nu by accelerated projected gradients (FISTA; Beck and Teboulle 2009), then what the last of those rounds
moved, by Adam, with nu fixed. Each starts at the other's result, and a pair of steps that does not lower an image's
error is not taken. Dhar et al. penalise ||nu||_1, in place of bounding it, and descend on both sides at once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ilo.ilo import ILO
from ilo.pulse import PULSE
from ilo.rounds import NoiseRule, Point, Variables, point_of, render, tensors_of
from rtil.errors import UserError
from rtil.inverse.constraints import start_norms
from rtil.inverse.l1_ball import project_l1
from rtil.inverse.loop import MOVING, RANGE, Evaluation, Optimised, measurement_terms, optimise
from rtil.inverse.problem import Problem, status_of
from rtil.inverse.result import Inversion
from rtil.inverse.schedules import Ramp
from rtil.inverse.solver import Solver, check_choice
from rtil.inverse.starts import Shapes
from rtil.ranges import to_unit

NU = "nu"


class SparseDeviation(Solver):
    """Add a sparse deviation to the pictures that another solver finds.

    Args:
        inner: Runs first; generator, selection, seed, precision, restarts, combination and batch_size are its own.
        radius: Largest sum of |nu| over the entries of an image, > 0, in generator units: a pixel that turns from black
            to white takes 2 in each channel.
        alternations: How often the latents follow nu; 0 leaves them as ``inner`` found them.
        steps: Adam steps of the latents in each.
        lr: Their peak learning rate.
        sparse_steps: Projected gradient steps of nu in each.
        sphere: Whether style rows and noise maps keep their norms.
        noise: Noise maps that move, by the rule of the last round of ``inner``.
        schedule: Course of the learning rate in each alternation.

    Raises:
        UserError: An option is not valid.
    """

    def __init__(
        self,
        inner: ILO | PULSE,
        radius: float,
        *,
        alternations: int = 4,
        steps: int = 60,
        lr: float = 0.1,
        sparse_steps: int = 100,
        sphere: bool = True,
        noise: NoiseRule = "5+2k",
        schedule: Ramp | None = None,
    ) -> None:
        if not isinstance(inner, ILO | PULSE):
            raise UserError(
                f"inner is {type(inner).__name__}: valid are ILO, CSGM and PULSE, which have one code per image"
            )
        super().__init__(
            inner.generator,
            selection=inner.selection,
            seed=inner.seed,
            restarts=inner.restarts,
            combination=inner.combination,
            batch_size=inner.batch_size,
        )
        for name, value in (("radius", radius), ("lr", lr)):
            if not 0 < value < math.inf:
                raise UserError(f"{name} is {value}: valid is a positive number")
        for name, count, least in (
            ("alternations", alternations, 0),
            ("steps", steps, 1),
            ("sparse_steps", sparse_steps, 1),
        ):
            if not isinstance(count, int) or count < least:
                raise UserError(f"{name} is {count}: valid is a whole number of {least} or more")
        check_choice("noise rule", noise, NoiseRule)
        self.compute_dtype = inner.compute_dtype
        self.inner = inner
        self.radius = radius
        self.alternations, self.steps, self.lr, self.sparse_steps = alternations, steps, lr, sparse_steps
        self.sphere = sphere
        self.noise: NoiseRule = noise
        self.schedule = schedule or Ramp()

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

    def attempt(self, problem: Problem) -> Inversion:
        """Run ``inner``, then the alternations; see :meth:`Solver.attempt`. The latents have ``nu`` too.

        A ``nu`` that is given is where the first of its steps starts, moved into the ball; ``inner`` does not see it.
        """
        G, latents = self.generator, problem.latents
        inner = self.inner.attempt(problem)
        first_round = len(inner.rounds)
        point, score = point_of(G, latents, {name: t[0] for name, t in inner.latents.items()}), inner.score
        alive = torch.tensor([s == "ok" for s in inner.status], device=problem.y.device)
        rounds, histories = list(inner.rounds), [inner.history] if inner.history else []
        with G.computing_in(None):
            picture = render(G, latents, point)
        nu = project_l1(problem.given[NU], self.radius) if NU in problem.given else torch.zeros_like(picture)

        for t in range(self.alternations + 1):
            trial = point
            if t:
                moving = Variables(G, latents, point, self.noise)
                with G.computing_in(self.compute_dtype):
                    outcome = self._follow(moving, nu, problem, alive, first_round + t)
                trial, alive = moving.point_of(outcome.variables), outcome.alive
                histories.append(outcome.history)
            with G.computing_in(None):
                trial_picture = render(G, latents, trial)
            trial_nu = self._deviate(trial_picture, nu, problem, alive)
            with torch.no_grad():
                trial_score = problem.error(to_unit(trial_picture + trial_nu), heldout=True)
            taken = alive & trial_score.isfinite()
            if self.selection != "last":
                taken = taken & (trial_score < score)
            point = _where(taken, trial, point)
            picture, nu, score = (
                _pick(taken, new, old) for new, old in ((trial_picture, picture), (trial_nu, nu), (trial_score, score))
            )
            rounds.append(to_unit(picture + nu).clamp(0, 1))
        if problem.callback is not None:
            problem.callback(first_round + self.alternations + 1, 0, rounds[-1])

        tensors = tensors_of(latents, point) | {NU: nu}
        return Inversion(
            x=rounds[-1],
            rounds=torch.stack(rounds),
            score=score,
            latents={name: tensor[None] for name, tensor in tensors.items()},
            history=_joined(histories),
            status=status_of(alive),
            seconds=0.0,
        )

    def _follow(self, moving: Variables, nu: Tensor, problem: Problem, alive: Tensor, number: int) -> Optimised:
        """Move what the last round of ``inner`` moved, with nu fixed."""

        def evaluate(variables: dict[str, Tensor]) -> Evaluation:
            picture = moving.picture(variables) + nu
            terms, score = measurement_terms(problem.operator, to_unit(picture), problem.y, problem.split)
            return Evaluation(picture, terms, score)

        start = moving.start
        return optimise(
            start,
            evaluate,
            steps=self.steps,
            lr=self.lr,
            schedule=self.schedule,
            alive=alive,
            constraints={name: start_norms(start[name]) for name in moving.spheres} if self.sphere else {},
            keep_last=self.selection == "last",
            on_iterate=problem.watch(number),
        )

    def _deviate(self, picture: Tensor, nu: Tensor, problem: Problem, alive: Tensor) -> Tensor:
        def error(deviation: Tensor) -> Tensor:
            return problem.error(to_unit(picture + deviation))

        return minimise_in_ball(error, nu, self.radius, self.sparse_steps, alive)


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
