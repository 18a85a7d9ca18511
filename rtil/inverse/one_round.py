"""Solvers that move everything they move in one round, on the whole generator."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.constraints import start_norms
from rtil.inverse.latents import Latents
from rtil.inverse.loop import Evaluation, Optimised, OptimizerName, Term, optimise
from rtil.inverse.problem import Problem
from rtil.inverse.result import Inversion
from rtil.inverse.schedules import Schedule
from rtil.inverse.solver import Solver
from rtil.ranges import to_unit

Variables = dict[str, Tensor]
Objective = Callable[[Tensor, Variables], tuple[dict[str, Term], Tensor]]
"""Called as objective(x, variables) with the picture x in [0, 1], not clamped; returns its terms, and the score [N] by
which iterates are selected."""


class OneRound(Solver):
    """An inverter of one round: its variables are those of ``_start``, and noise maps.

    Args:
        generator: The prior.
        steps: Optimiser steps; 0 returns the start.
        lr: Peak learning rate.
        schedule: Its course.
        moving_maps: Indices of the noise maps that move.
        optimizer: ``adam``, or ``sgd`` without momentum.
        options: Those of :class:`rtil.inverse.solver.Solver`.

    Raises:
        UserError: An option is not valid.
    """

    def __init__(
        self,
        generator: LayeredGenerator,
        steps: int,
        lr: float,
        schedule: Schedule,
        moving_maps: Sequence[int],
        optimizer: OptimizerName = "adam",
        **options: Any,
    ) -> None:
        super().__init__(generator, **options)
        if not isinstance(steps, int) or steps < 0:
            raise UserError(f"steps is {steps}: valid is a whole number of 0 or more")
        if not 0 < lr < float("inf"):
            raise UserError(f"lr is {lr}: valid is a positive number")
        self.steps, self.lr, self.schedule = steps, lr, schedule
        self.moving_maps: Sequence[int] = moving_maps
        self.optimizer: OptimizerName = optimizer

    def attempt(self, problem: Problem) -> Inversion:
        """Optimise once; see :meth:`Solver.attempt`."""
        G = self.generator
        noise = self._start_noise(problem)
        variables = self._start(problem) | {f"noise_{i}": noise[i] for i in self.moving_maps}
        alive, history = problem.all_alive(), dict[str, Tensor]()
        if self.steps:
            with G.computing_in(self.compute_dtype):
                outcome = self._optimise(variables, noise, problem, alive)
            variables, alive, history = outcome.variables, outcome.alive, outcome.history
        with torch.no_grad(), G.computing_in(None):
            x = to_unit(self._picture(variables, noise, problem.latents))
            tensors = self._found(problem, variables, x, history)
        tensors |= {f"noise_{i}": variables.get(f"noise_{i}", fixed) for i, fixed in enumerate(noise)}
        return problem.inversion([x], tensors, history, alive)

    @abstractmethod
    def _start(self, problem: Problem) -> Variables:
        """Return the variables at their start, without noise maps; ``v`` [N, rows, D] is one of them."""

    def _start_noise(self, problem: Problem) -> list[Tensor]:
        """Return all noise maps at their start."""
        return problem.start_noise(self.generator)

    @abstractmethod
    def _picture(self, variables: Variables, noise: list[Tensor], latents: Latents) -> Tensor:
        """Return the picture of the variables in generator units."""

    @abstractmethod
    def _objective(self, problem: Problem) -> Objective:
        """Return what is minimised."""

    @abstractmethod
    def _on_sphere(self, name: str) -> bool:
        """Tell whether the rows or the map of a variable keep the norms of their start."""

    @abstractmethod
    def _found(
        self, problem: Problem, variables: Variables, x: Tensor, history: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the tensors that a result keeps, noise maps aside, [N, ...] each; x is not clamped."""

    def _optimise(self, start: Variables, noise: list[Tensor], problem: Problem, alive: Tensor) -> Optimised:
        objective = self._objective(problem)

        def evaluate(variables: Variables) -> Evaluation:
            picture = self._picture(variables, noise, problem.latents)
            terms, score = objective(to_unit(picture), variables)
            return Evaluation(picture, terms, score)

        return optimise(
            start,
            evaluate,
            steps=self.steps,
            lr=self.lr,
            schedule=self.schedule,
            alive=alive,
            optimizer=self.optimizer,
            constraints={name: start_norms(t) for name, t in start.items() if self._on_sphere(name)},
            keep_last=self.selection == "last",
            on_iterate=problem.watch(0),
        )
