"""One attempt of ILO at one batch: its rounds, and what they leave behind."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ilo.objective import Objective, StochasticNoise, Weights
from ilo.range_projection import DISTANCE, project_to_range
from ilo.rounds import Point, Variables, enter, render
from rtil import seeds
from rtil.inverse.constraints import Constraint, ball_around, start_norms, typical_shell
from rtil.inverse.latents import Latents, start_noise
from rtil.inverse.loop import Evaluation, Optimised, optimise
from rtil.inverse.losses import Split, measurement_error
from rtil.inverse.result import Inversion, Status
from rtil.inverse.solver import Callback
from rtil.ranges import to_unit

if TYPE_CHECKING:
    from ilo.ilo import ILO


class Attempt:
    """Arguments are those of :meth:`rtil.inverse.solver.Solver.attempt`, and the solver with its options."""

    def __init__(
        self,
        solver: "ILO",
        y: Tensor,
        operator: Any,
        split: Split | None,
        latents: Latents,
        image_ids: Sequence[str],
        restart: int,
        callback: Callback | None,
    ) -> None:
        self.solver, self.generator = solver, solver.generator
        self.y, self.operator, self.split = y, operator, split
        self.latents, self.image_ids, self.restart, self.callback = latents, image_ids, restart, callback
        weights = Weights(solver.measurement_weight, solver.geodesic_weight, solver.z1_weight, solver.perceptual_weight)
        perceptual = solver.perceptual_term(operator, y, split)
        self.objective = Objective(operator, y, split, weights, solver.z1_sigma, perceptual)
        self.noise = None
        if solver.sna_sigma is not None:
            self.noise = StochasticNoise(solver.sna_sigma, image_ids, solver.seed, restart)
        self.alive = torch.ones(len(y), dtype=torch.bool, device=y.device)
        self.pictures: list[Tensor] = []
        self.histories: list[dict[str, Tensor]] = []
        self.distances: list[Tensor] = []

    def run(self) -> Inversion:
        """Run all rounds, and again behind every projection to the range."""
        G, solver = self.generator, self.solver
        v = self.latents.start(solver.start, self.image_ids, solver.seed, self.restart)
        point = Point(v, start_noise(G, self.image_ids, solver.seed, self.restart), {})
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
                point = enter(G, self.latents, point, k, self._z1(index, k))
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

        def on_iterate(step: int, picture: Tensor) -> None:
            if self.callback is not None:
                self.callback(index, step, to_unit(picture).clamp(0, 1))

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
            on_iterate=on_iterate,
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

    def _z1(self, index: int, k: int) -> Tensor | None:
        """Return where the deviation of round k starts; None for zero."""
        solver = self.solver
        if k == 0 or solver.z1_start == "zero":
            return None
        shape, place = self.generator.cut_shape(k), (self.restart, index)
        draws = [
            torch.randn(shape, generator=seeds.generator(solver.seed, "inverse/z1", name, *place))
            for name in self.image_ids
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
                lambda start: self._constraints(0, start),
                steps=solver.range_steps,
                lr=solver.lrs[0],
                schedule=solver.schedule,
                alive=self.alive,
            )
        self.alive = outcome.alive
        self.distances.append(outcome.history[DISTANCE])
        return nearest

    def _inversion(self, point: Point) -> Inversion:
        with torch.no_grad():
            heldout = None if self.split is None else self.split.heldout
            score = measurement_error(self.operator, self.pictures[-1], self.y, heldout)
            tensors = {"v": point.v, "ws": self.latents.ws(point.v)}
        tensors |= {f"noise_{i}": t for i, t in enumerate(point.noise)} | {f"z1_{k}": t for k, t in point.z1.items()}
        rounds = torch.stack(self.pictures).clamp(0, 1)
        first = self.histories[0] if self.histories else {}
        history = {name: torch.cat([h[name] for h in self.histories], 1) for name in first}
        if self.distances:
            history[DISTANCE] = torch.cat(self.distances, 1)
        status: list[Status] = ["ok" if ok else "diverged" for ok in self.alive.tolist()]
        return Inversion(
            x=rounds[-1],
            rounds=rounds,
            score=score,
            latents={name: t[None] for name, t in tensors.items()},
            history=history,
            status=status,
            seconds=0.0,
        )
