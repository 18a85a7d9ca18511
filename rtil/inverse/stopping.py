"""Stopping without the truth, before a solver fits what no picture of its generator explains.

``auto`` is ``sure`` where a solver would fit the known noise of a denoising task, else ``measurement``, the iterate of
lowest measurement error. ``heldout`` judges by a tenth of the measurements, which then are missing in the fit. Three
others lose none:

``crossfit``: two solves run side by side, each fitted to one half of the measurements and judged by the other. All
measurements are then fitted with as many steps in each round as served the halves, their mean. It costs two solves
more, whatever the number of restarts, whose first one is asked.

``discrepancy`` (Morozov 1966): noise N(0, s^2) in M entries lets the truth itself miss them by s sqrt(M). The first
iterate whose residual is at most tau times as long is taken, so that noise is not fitted; where none is, the nearest.

``sure``: denoising; of all iterates that of the lowest estimated error (:mod:`rtil.inverse.sure`). Twice the cost.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.losses import Split, split_heldout
from rtil.inverse.operators.base import Operator
from rtil.inverse.problem import Problem
from rtil.inverse.result import Inversion
from rtil.inverse.settings import Selection, SolverSettings
from rtil.inverse.sure import Twins

FOLD = 0.5


def check_selection(selection: Selection, operator: Operator) -> None:
    """Raise UserError where iterates of measurements by an operator cannot be selected so."""
    if selection == "sure" and not operator.is_identity:
        raise UserError(f"selection 'sure' is for denoising: '{operator.label}' does not measure each pixel; leave it")
    if selection in ("sure", "discrepancy") and operator.noise_model.sigma == 0:
        raise UserError(
            f"selection '{selection}' needs noise of a known strength: '{operator.label}' has none; give noise_sigma, "
            "or another selection"
        )


def noise_error(operator: Operator) -> float:
    """Return the expected measurement error (:meth:`Operator.error`) of the truth: 4 M s^2 / c."""
    return 4 * int(operator.observed.sum()) * operator.noise_model.sigma**2 / operator.error_normaliser


class Stopping:
    """How the iterates of one solve are selected.

    Args:
        settings: Of the solver.
        operator: What measured; checked.
        y: Measurements [N, ...].
        seed: Root seed.

    Attributes:
        split: What is fitted to and what is judged by, for all images; None where all measurements serve both.
    """

    def __init__(self, settings: SolverSettings, operator: Operator, y: Tensor, seed: int) -> None:
        self.selection, self.operator = settings.selection, operator
        self.enough = settings.discrepancy_tau**2 * noise_error(operator) if self.selection == "discrepancy" else None
        self.split = split_heldout(operator, y, seed) if self.selection == "heldout" else None
        self.folds: Split | None = None
        if self.selection == "crossfit":
            self.folds = split_heldout(operator, y, seed, FOLD, self.selection)

    def stops(self, problem: Problem, attempt: Callable[[Problem], Inversion]) -> Tensor | None:
        """Return the steps [rounds, N] that cross-fitting finds; None with other selections."""
        if self.folds is None:
            return None
        found = attempt(in_folds(problem, self.folds)).stops
        assert found is not None  # noqa: S101  of every solver that has this selection
        return torch.stack(found.chunk(2, 1)).double().mean(0).round().long()

    def attempts(
        self,
        problem: Problem,
        stops: Tensor | None,
        attempts: Callable[[Problem], list[Inversion]],
        generator: LayeredGenerator,
    ) -> list[Inversion]:
        """Return a solver's attempts at a problem.

        Args:
            problem: Of N images, without stops.
            stops: From :meth:`stops`.
            attempts: The solver's.
            generator: Its prior.
        """
        if self.selection == "sure":
            return [first_twins(found, len(problem.y), generator) for found in attempts(with_twins(problem))]
        return attempts(replace(problem, stops=stops, enough=self.enough))


def in_folds(problem: Problem, folds: Split) -> Problem:
    """Return a problem with every image twice: fitted to one fold and judged by the other, and the other way round."""
    count = len(problem.y)
    first, second = (weight.expand(count, *problem.y.shape[1:]) for weight in folds)
    split = Split(torch.cat([first, second]), torch.cat([second, first]))
    return replace(_twice(problem), split=split, callback=None)


def with_twins(problem: Problem) -> Problem:
    """Return a problem with the neighbour of every image behind all images; the callback sees the images alone."""
    sigma, count, callback = problem.operator.noise_model.sigma, len(problem.y), problem.callback
    twins = Twins.of(problem.y, sigma, problem.image_ids, problem.seed, problem.restart)

    def watched(number: int, step: int, x: Tensor) -> None:
        assert callback is not None  # noqa: S101
        callback(number, step, x[:count])

    seen = None if callback is None else watched
    return replace(_twice(problem), y=twins.both, twins=twins, callback=seen)


def first_twins(found: Inversion, count: int, generator: LayeredGenerator) -> Inversion:
    """Return the first N images of an inversion, rendered by themselves: sums depend on the size of a batch."""
    latents = found.latents.mapped(lambda t: t[:, :count])
    x = latents.render(generator)
    return replace(
        found,
        x=x,
        rounds=torch.cat([found.rounds[:-1, :count], x[None]]),
        score=found.score[:count],
        latents=latents,
        history={name: t[:count] for name, t in found.history.items()},
        status=found.status[:count],
        stops=None if found.stops is None else found.stops[:, :count],
    )


def _twice(problem: Problem) -> Problem:
    given: Mapping[str, Tensor] = {name: torch.cat([t, t]) for name, t in problem.given.items()}
    ids = [*problem.image_ids, *problem.image_ids]
    return replace(problem, y=torch.cat([problem.y, problem.y]), image_ids=ids, given=given)
