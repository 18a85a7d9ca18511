"""The factor by which a method's intervals are widened, fitted to validation pictures at its first use, and cached.

They are the last of the permutation whose first pictures are evaluated where the validation part is, and never test
pictures. The factor belongs to a checkpoint, a method with all its settings, and an operator; fitting it costs as much
as inverting that many more pictures.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rtil.data import ImageDataset, open_dataset
from rtil.errors import Notice, RunError, UserError
from rtil.evaluation.held_out import evaluation_order
from rtil.evaluation.jobs import Job
from rtil.files import atomic_path, cache_folder
from rtil.generators.base import weight_hash
from rtil.inverse.intervals import fit_scale
from rtil.inverse.operators import Operator
from rtil.inverse.solver import Solver


class Estimate(NamedTuple):
    """What a method says of pictures, and how sure it is.

    Attributes:
        x: [N, 3, R, R] in [0, 1].
        spread: Standard deviations of the attempts.
        attempts: Their number.
    """

    x: Tensor
    spread: Tensor
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
        key = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:32]
        if key not in self._fitted:
            self._fitted[key] = _cached(key, lambda: self._fit(job, count, operator, batch, estimate))
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
        x, spread = (torch.cat([getattr(one, name) for one in found]) for name in ("x", "spread"))
        scale = fit_scale(x, spread, torch.cat(truths), found[0].attempts)
        print(f"{job.condition.label}, {job.name}: intervals are widened by {scale:.3g}", flush=True)
        return scale


def _cached(key: str, fit: Callable[[], float]) -> float:
    path = cache_folder() / f"calibration-{key}.safetensors"
    try:
        kept = load_file(path)["scale"]
        if kept.shape == (1,) and bool((kept.isfinite() & (kept > 0)).all()):
            return float(kept)
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, KeyError) as error:
        warnings.warn(f"{path} is damaged ({error}) and made anew", Notice, stacklevel=2)
    scale = fit()
    try:
        with atomic_path(path) as temporary:
            save_file({"scale": torch.tensor([scale], dtype=torch.float64)}, temporary)
    except RunError as error:
        warnings.warn(f"the calibration is not cached ({error})", Notice, stacklevel=2)
    return scale
