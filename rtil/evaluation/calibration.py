"""The factor by which a method's intervals are widened, fitted to validation pictures at its first use, and cached.

They are the last of the permutation whose first pictures are evaluated where the validation part is, and never test
pictures. The factor belongs to a checkpoint, a method with all its settings, and an operator; fitting it costs as much
as inverting that many more pictures.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from rtil.data import ImageDataset, open_dataset
from rtil.errors import UserError
from rtil.evaluation.held_out import evaluation_order
from rtil.evaluation.jobs import Job
from rtil.generators.base import weight_hash
from rtil.inverse.intervals import fit_scale
from rtil.inverse.operators import Operator
from rtil.inverse.solver import Solver
from rtil.kept import Tensors, kept, key_of


class Estimate(NamedTuple):
    """What a method says of pictures, and how sure it is.

    Attributes:
        x: [N, 3, R, R] in [0, 1].
        spread: Standard deviations of the attempts; None of one.
        attempts: Their number.
    """

    x: Tensor
    spread: Tensor | None
    attempts: int


class Calibrations:
    """Fits factors to validation pictures.

    Args:
        data: The set.
        resolution: Side of the pictures.
        evaluated: How many of the same validation pictures are evaluated.
    """

    def __init__(self, data: str, resolution: int, evaluated: int) -> None:
        self.data, self.resolution, self.evaluated = data, resolution, evaluated
        self._fitted: dict[str, float] = {}

    def check(self, count: int) -> None:
        """Raise UserError unless there are as many validation pictures beside those that are evaluated."""
        most = len(self.validation) - self.evaluated
        if count > most:
            raise UserError(
                f"calibration is {count}: valid is at most {max(most, 0)}, the validation pictures of {self.data} that "
                "are not evaluated"
            )

    @cached_property
    def validation(self) -> ImageDataset:
        """The set."""
        return open_dataset(self.data, self.resolution, "validation")

    def of(
        self,
        job: Job,
        solver: Solver,
        operator: Operator,
        batch: int,
        estimate: Callable[[Tensor, list[str]], Estimate],
    ) -> float:
        """Return the factor of a job.

        Args:
            job: Its candidate says how many validation pictures there are.
            solver: What inverts.
            operator: What measures.
            batch: Pictures inverted at a time.
            estimate: Called with measurements and ids; all that the method does.
        """
        assert job.candidate is not None  # noqa: S101
        ds, count = self.validation, job.candidate.calibration
        about = [job.record, job.condition.slug, job.keys[0].seed, weight_hash(solver.generator), repr(ds.identity())]
        key = key_of(about)
        if key not in self._fitted:

            def fit() -> Tensors:
                scale = self._fit(job, count, operator, batch, estimate)
                return {"scale": torch.tensor([scale], dtype=torch.float64)}

            self._fitted[key] = float(kept("calibration", key, {"scale": (1,)}, fit)["scale"])
        return self._fitted[key]

    def _fit(
        self,
        job: Job,
        count: int,
        operator: Operator,
        batch: int,
        estimate: Callable[[Tensor, list[str]], Estimate],
    ) -> float:
        print(f"{job.condition.label}, {job.name}: calibration inverts {count} validation pictures", flush=True)
        places = evaluation_order(len(self.validation))[-count:]
        found, truths = list[Estimate](), list[Tensor]()
        for chunk in (places[first : first + batch] for first in range(0, count, batch)):
            truth = (self.validation.load(chunk).float() / 255).to(operator.all_observed.device)
            ids = [f"validation/{self.validation.key(place)}" for place in chunk]
            found.append(estimate(operator(truth, ids), ids))
            truths.append(truth)
        x, spreads = torch.cat([one.x for one in found]), [one.spread for one in found if one.spread is not None]
        scale = fit_scale(x, torch.cat(spreads), torch.cat(truths), found[0].attempts)
        print(f"{job.condition.label}, {job.name}: intervals are widened by {scale:.3g}", flush=True)
        return scale
