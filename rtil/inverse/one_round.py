"""Solvers that move everything they move in one round, on the whole generator."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from rtil.inverse.constraints import start_norms
from rtil.inverse.latent_space import LatentSpace
from rtil.inverse.loop import Evaluation, Term, optimise
from rtil.inverse.problem import Problem
from rtil.inverse.result import Inversion
from rtil.inverse.schedules import Schedule
from rtil.inverse.settings import DEFAULT_STEPS, OptimizerName, Selection
from rtil.inverse.solver import Solver
from rtil.ranges import to_unit

Variables = dict[str, Tensor]
Terms = Callable[[Tensor, Variables], tuple[dict[str, Term], Tensor]]
"""Called as terms(x, variables) with the picture x in [0, 1], not clamped; returns what is minimised, and the score [N]
by which iterates are selected."""


class OneRound(Solver):
    """An inverter of one round: it moves v, on the spheres where it starts, and noise maps.

    A subclass says which maps move and what is minimised, and whatever it does in another way. Its settings have
    ``steps`` and ``lr``.
    """

    SELECTIONS = get_args(Selection)
    STEPS: ClassVar[int] = sum(DEFAULT_STEPS)
    """Where the settings name none."""
    settings: Any

    @property
    def optimizer(self) -> OptimizerName:
        """Which optimiser moves them."""
        return "adam"

    @property
    def schedule(self) -> Schedule:
        """Course of the learning rate."""
        ramp: Schedule = self.settings.ramp
        return ramp

    def resolved(self, settings: Any) -> Any:
        """Fill in the steps; see :meth:`Solver.resolved`."""
        return super().resolved(settings.changed(steps=self.STEPS) if settings.steps is None else settings)

    def iterates(self) -> int:
        """Return the steps and one; see :meth:`Solver.iterates`."""
        return self.settings.steps + 1 if self.settings.steps else 0

    def attempt(self, problem: Problem) -> Inversion:
        """Optimise once; see :meth:`Solver.attempt`."""
        G, space, settings = self.generator, problem.space, self.settings
        fixed = self._start_noise(problem)
        variables = self._start(problem) | {f"noise_{i}": fixed[i] for i in self._moving_maps()}
        terms_of = self._terms(problem)

        def noise(of: Variables) -> list[Tensor]:
            return [of.get(f"noise_{i}", t) for i, t in enumerate(fixed)]

        def evaluate(of: Variables) -> Evaluation:
            picture = self._picture(of, noise(of), space)
            terms, score = terms_of(to_unit(picture), of)
            return Evaluation(picture, terms, score)

        alive, history = problem.all_alive(), dict[str, Tensor]()
        stop = torch.zeros(alive.shape, dtype=torch.long, device=alive.device)
        if settings.steps:
            with G.computing_in(self.compute_dtype):
                outcome = optimise(
                    variables,
                    evaluate,
                    steps=settings.steps,
                    lr=settings.lr,
                    schedule=self.schedule,
                    alive=alive,
                    optimizer=self.optimizer,
                    constraints={name: start_norms(t) for name, t in variables.items() if self._on_sphere(name)},
                    keep_last=settings.selection == "last",
                    stops=problem.stops_of(0),
                    enough=problem.enough,
                    on_iterate=problem.watch(0),
                )
            variables, alive, history, stop = outcome.variables, outcome.alive, outcome.history, outcome.chosen
        with torch.no_grad(), G.computing_in(None):
            x = to_unit(self._picture(variables, noise(variables), space))
            found = self._found(problem, variables, x, history)
        found |= {f"noise_{i}": t for i, t in enumerate(noise(variables))}
        return problem.inversion([x], self.Latents(found), history, alive, stops=[stop])

    @abstractmethod
    def _moving_maps(self) -> Sequence[int]:
        """Return the indices of the noise maps that move."""

    @abstractmethod
    def _terms(self, problem: Problem) -> Terms:
        """Return what is minimised."""

    def _start(self, problem: Problem) -> Variables:
        """Return the variables at their start, without noise maps; ``v`` [N, rows, D] is one of them."""
        return {"v": problem.start_v()}

    def _start_noise(self, problem: Problem) -> list[Tensor]:
        """Return all noise maps at their start."""
        return problem.start_noise(self.generator)

    def _picture(self, variables: Variables, noise: list[Tensor], space: LatentSpace) -> Tensor:
        """Return the picture of the variables in generator units."""
        picture: Tensor = self.generator(space.ws(variables["v"]), noise)
        return picture

    def _on_sphere(self, name: str) -> bool:
        """Tell whether the rows or the map of a variable keep the norms of their start."""
        return True

    def _found(
        self, problem: Problem, variables: Variables, x: Tensor, history: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the tensors that a result keeps, noise maps aside, [N, ...] each; x is not clamped."""
        return {"v": variables["v"], "ws": problem.space.ws(variables["v"])}
