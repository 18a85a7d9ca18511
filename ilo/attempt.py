"""One attempt of ILO at one batch: its rounds, and what they leave behind."""

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ilo.objective import Objective, StochasticNoise, Weights, resolve_sna_sigma
from ilo.range_projection import project_to_range
from ilo.rounds import Point, Variables, deviations_of, enter, render, tensors_of
from rtil import seeds
from rtil.inverse.constraints import Constraint, ball_around, start_norms, typical_shell
from rtil.inverse.loop import RANGE, Evaluation, Optimised, optimise
from rtil.inverse.problem import Problem
from rtil.inverse.result import Inversion
from rtil.ranges import to_unit

if TYPE_CHECKING:
    from ilo.ilo import ILO


class Attempt:
    """Arguments are the solver with its options, and the problem."""

    def __init__(self, solver: "ILO", problem: Problem) -> None:
        self.solver, self.generator = solver, solver.generator
        self.problem, self.latents = problem, problem.latents
        y, operator, split = problem.y, problem.operator, problem.split
        weights = Weights(solver.measurement_weight, solver.geodesic_weight, solver.z1_weight, solver.perceptual_weight)
        perceptual = solver.perceptual_term(operator, y, split)
        rows_of = self.latents.ws if solver.geodesic_of == "ws" else None
        self.objective = Objective(operator, y, split, weights, solver.z1_sigma, perceptual, rows_of)
        self.noise = None
        sna_sigma = resolve_sna_sigma(solver.sna_sigma, operator)
        if sna_sigma is not None:
            self.noise = StochasticNoise(sna_sigma, problem.image_ids, solver.seed, problem.restart)
        self.alive = problem.all_alive()
        self.pictures: list[Tensor] = []
        self.histories: list[dict[str, Tensor]] = []
        self.distances: list[Tensor] = []

    def run(self) -> Inversion:
        """Run all rounds, and again behind every projection to the range."""
        solver, problem = self.solver, self.problem
        noise = problem.start_noise(self.generator)
        point = Point(problem.start_v(solver.start), noise, deviations_of(problem.given))
        for k in range(len(solver.steps)):
            point = self._round(k, point)
        for _ in range(solver.range_projection):
            point = self._back_to_the_range(point)
            for k in range(1, len(solver.steps)):
                point = self._round(k, point)
        return self._inversion(point)

    def _round(self, k: int, point: Point) -> Point:
        """Run round k from a point, note its picture, and return where it ends; 0 steps are no round."""
        G, solver = self.generator, self.solver
        index, steps = len(self.pictures), solver.steps[k]
        if steps:
            with G.computing_in(None):
                point = enter(G, self.latents, point, k, self._z1(index, k, point))
                moving = Variables(G, self.latents, point, solver.noise)
            with G.computing_in(solver.compute_dtype):
                outcome = self._optimise(index, k, moving)
            point, self.alive = moving.point_of(outcome.variables), outcome.alive
            self.histories.append(outcome.history)
        with G.computing_in(None):
            seen = bool(steps) or not self.pictures
            self.pictures.append(to_unit(render(G, self.latents, point)) if seen else self.pictures[-1])
        return point

    def _optimise(self, index: int, k: int, moving: Variables) -> Optimised:
        solver, iterates = self.solver, itertools.count()

        def evaluate(variables: dict[str, Tensor]) -> Evaluation:
            picture = moving.picture(variables)
            noise = None if self.noise is None else self.noise.draw(picture, index, next(iterates))
            return self.objective(picture, variables, noise)

        start = moving.start
        return optimise(
            start,
            evaluate,
            steps=solver.steps[k],
            lr=solver.lrs[k],
            schedule=solver.schedule,
            alive=self.alive,
            constraints=self._constraints(k, start),
            plateau=solver.plateau,
            keep_last=solver.selection == "last",
            on_iterate=self.problem.watch(index),
        )

    def _constraints(self, k: int, start: dict[str, Tensor]) -> dict[str, Constraint]:
        """Return where the variables of round k are held: in a ball where a radius is set, else on a sphere."""
        solver = self.solver
        found: dict[str, Constraint] = {}
        for name, t in start.items():
            radii = {"v": solver.radius_latent, "z1": solver.radius_feature}.get(name, solver.radius_noise)
            if radii is not None:
                found[name] = ball_around(t, radii[k])
            elif name == "z1" and solver.z1_sphere:
                found[name] = typical_shell(solver.z1_sigma)
            elif name != "z1" and solver.sphere:
                found[name] = start_norms(t)
        return found

    def _z1(self, index: int, k: int, point: Point) -> Tensor | None:
        """Return where the deviation of round k starts, as given, drawn or zero; None for zero."""
        solver = self.solver
        if k in point.z1:
            return point.z1[k]
        if k == 0 or solver.z1_start == "zero":
            return None
        shape, place = self.generator.cut_shape(k), (self.problem.restart, index)
        draws = [
            torch.randn(shape, generator=seeds.generator(solver.seed, "inverse/z1", name, *place))
            for name in self.problem.image_ids
        ]
        z1 = solver.z1_sigma * torch.stack(draws).to(self.generator.device)
        return typical_shell(solver.z1_sigma)(z1) if solver.z1_sphere else z1

    def _back_to_the_range(self, point: Point) -> Point:
        """Return the point without deviations whose feature is nearest to that at the last cut."""
        G, solver = self.generator, self.solver
        with G.computing_in(solver.compute_dtype):
            nearest, outcome = project_to_range(
                G,
                self.latents,
                point,
                solver.noise,
                sphere=solver.sphere,
                steps=solver.range_steps,
                lr=solver.lrs[0],
                schedule=solver.schedule,
                alive=self.alive,
            )
        self.alive = outcome.alive
        self.distances.append(outcome.history[RANGE])
        return nearest

    def _inversion(self, point: Point) -> Inversion:
        first = self.histories[0] if self.histories else {}
        history = {name: torch.cat([h[name] for h in self.histories], 1) for name in first}
        if self.distances:
            history[RANGE] = torch.cat(self.distances, 1)
        return self.problem.inversion(self.pictures, tensors_of(self.latents, point), history, self.alive)
