"""The fusions of an evaluation: each is fitted at its first use, and its weights are kept in the cache.

A fusion belongs to a checkpoint, a method with all its settings, and an operator; fitting it costs as much as inverting
that many more pictures. What it was fitted to is part of the rows' settings.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rtil.data import ImageDataset
from rtil.errors import Notice, RunError, UserError
from rtil.evaluation.fusion import Fusion, bands, fit_fusion
from rtil.evaluation.held_out import fit_linear_prior, open_linear_prior_data
from rtil.evaluation.jobs import Job
from rtil.evaluation.linear_prior import LinearPrior
from rtil.files import atomic_path, cache_folder
from rtil.generators.base import weight_hash
from rtil.inverse.operators import Operator
from rtil.inverse.solver import Solver
from rtil.seeds import generator


class Fusions:
    """Fits fusions to training pictures.

    Args:
        data: The set.
        resolution: Side of the pictures.
    """

    def __init__(self, data: str, resolution: int) -> None:
        self.data, self.resolution = data, resolution
        self._fitted: dict[str, Fusion] = {}
        self._priors: dict[int, LinearPrior] = {}

    def check(self, count: int) -> None:
        """Raise UserError unless there are more training pictures than that."""
        if count >= len(self.training):
            raise UserError(
                f"fusion is {count}: valid is fewer than the {len(self.training)} training pictures of {self.data}"
            )

    @cached_property
    def training(self) -> ImageDataset:
        """The set."""
        return open_linear_prior_data(self.data, self.resolution)

    def of(self, job: Job, solver: Solver, operator: Operator, axes: Tensor, batch: int) -> Fusion:
        """Return the fusion of a job.

        Args:
            job: Its candidate says how many training pictures there are.
            solver: What inverts.
            operator: What measures.
            axes: Of the linear prior, see :class:`rtil.evaluation.fusion.Fusion`.
            batch: Pictures inverted at a time.
        """
        assert job.candidate is not None  # noqa: S101
        ds, count = self.training, job.candidate.fusion
        about = [job.record, job.condition.slug, job.keys[0].seed, weight_hash(solver.generator), repr(ds.identity())]
        key = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:32]
        if key not in self._fitted:
            places = torch.randperm(len(ds), generator=generator(0, "fusion/pictures"))[:count].tolist()

            def fit() -> Fusion:
                print(f"{job.condition.label}, {job.name}: fusion inverts {count} training pictures", flush=True)
                truth = (ds.load(places).float() / 255).to(solver.generator.device)
                ids = [f"train/{ds.key(place)}" for place in places]
                y = operator(truth, ids)
                return fit_fusion(
                    self._prior_without(places),
                    axes,
                    operator,
                    truth,
                    y,
                    lambda y: _invert(solver, y, operator, ids, batch),
                )

            self._fitted[key] = _cached(key, axes, fit)
        return self._fitted[key]

    def _prior_without(self, places: Sequence[int]) -> LinearPrior:
        if len(places) not in self._priors:
            self._priors[len(places)] = fit_linear_prior(self.data, self.resolution, places)
        return self._priors[len(places)]


def _invert(solver: Solver, y: Tensor, operator: Operator, ids: Sequence[str], batch: int) -> Tensor:
    chunks = torch.arange(len(y)).split(batch)
    return torch.cat([solver.invert(y[c], operator, [ids[i] for i in c.tolist()]).x for c in chunks])


def _cached(key: str, axes: Tensor, fit: Callable[[], Fusion]) -> Fusion:
    path = cache_folder() / f"fusion-{key}.safetensors"
    try:
        weights = load_file(path)["weights"]
        if weights.shape == (len(bands(axes)) - 1,) and bool(weights.isfinite().all()):
            return Fusion(axes, weights)
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, KeyError) as error:
        warnings.warn(f"{path} is damaged ({error}) and made anew", Notice, stacklevel=2)
    fusion = fit()
    try:
        with atomic_path(path) as temporary:
            save_file({"weights": fusion.weights}, temporary)
    except RunError as error:
        warnings.warn(f"the fusion is not cached ({error})", Notice, stacklevel=2)
    return fusion
