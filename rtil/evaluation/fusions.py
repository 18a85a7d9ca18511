"""The fusions of an evaluation: each is fitted at its first use, and its weights are kept in the cache.

A fusion belongs to a checkpoint, a method with all its settings, and an operator; fitting it costs as much as inverting
that many more pictures. What it was fitted to is part of the rows' settings.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rtil.evaluation.fusion import Fusion, bands, fit_fusion
from rtil.evaluation.held_out import fit_linear_prior
from rtil.evaluation.jobs import Job
from rtil.evaluation.linear_prior import LinearPrior
from rtil.evaluation.training_pictures import TrainingPictures
from rtil.generators.base import weight_hash
from rtil.inverse.operators import Operator
from rtil.inverse.solver import Solver
from rtil.kept import Tensors, kept, key_of

Find = Callable[[Tensor, Sequence[str]], Tensor]
"""From measurements and ids to pictures: all that a method does before it is mixed."""
PURPOSE = "fusion/pictures"


class Fusions:
    """Fits fusions to training pictures.

    Args:
        training: The pictures.
    """

    def __init__(self, training: TrainingPictures) -> None:
        self.training = training
        self._fitted: dict[str, Fusion] = {}
        self._priors: dict[int, LinearPrior] = {}

    def of(self, job: Job, solver: Solver, operator: Operator, axes: Tensor, batch: int, find: Find) -> Fusion:
        """Return the fusion of a job.

        Args:
            job: Its candidate says how many training pictures there are.
            solver: Whose generator is inverted.
            operator: What measures.
            axes: Of the linear prior, see :class:`rtil.evaluation.fusion.Fusion`.
            batch: Pictures inverted at a time.
            find: What inverts them.
        """
        assert job.candidate is not None  # noqa: S101
        count = job.candidate.fusion
        place = [job.record, job.condition.slug, job.keys[0].seed]
        key = key_of([*place, weight_hash(solver.generator), self.training.identity])
        if key not in self._fitted:

            def fit() -> Tensors:
                print(f"{job.condition.label}, {job.name}: fusion inverts {count} training pictures", flush=True)
                truth, ids = self.training.drawn(count, PURPOSE, solver.generator.device)
                y = operator(truth, ids)
                fusion = fit_fusion(
                    self._prior_without(self.training.places(count, PURPOSE)),
                    axes,
                    operator,
                    truth,
                    y,
                    lambda y: in_batches(find, y, ids, batch),
                )
                return {"weights": fusion.weights}

            shape = (len(bands(axes)) - 1,)
            self._fitted[key] = Fusion(axes, kept("fusion", key, {"weights": shape}, fit)["weights"])
        return self._fitted[key]

    def _prior_without(self, places: Sequence[int]) -> LinearPrior:
        if len(places) not in self._priors:
            data, resolution = self.training.data, self.training.resolution
            self._priors[len(places)] = fit_linear_prior(data, resolution, places)
        return self._priors[len(places)]


def in_batches(find: Find, y: Tensor, ids: Sequence[str], batch: int) -> Tensor:
    """Return the pictures that are found of measurements, so many at a time."""
    chunks = torch.arange(len(y)).split(batch)
    return torch.cat([find(y[c], [ids[i] for i in c.tolist()]) for c in chunks])
