"""The representation errors of an evaluation: fitted once for each checkpoint and method, and kept in the cache.

They are those of one attempt: what a picture of the generator lacks, whatever the mean of several pictures does.
"""

from collections.abc import Callable

from torch import Tensor

from rtil.evaluation.fusions import in_batches
from rtil.evaluation.jobs import Job
from rtil.evaluation.linear_prior import LinearPrior
from rtil.evaluation.representation import fit_errors
from rtil.evaluation.training_pictures import TrainingPictures
from rtil.generators.base import weight_hash
from rtil.inverse.operators import make_operator
from rtil.inverse.solver import Solver
from rtil.kept import Tensors, kept, key_of

COMPLETE = "inversion"
"""The task that measures all of a picture."""


class Representations:
    """Fits what no picture of a generator can be to training pictures.

    Args:
        training: The pictures.
    """

    def __init__(self, training: TrainingPictures) -> None:
        self.training = training
        self._fitted: dict[str, LinearPrior] = {}

    def of(self, job: Job, solver: Solver, axes: Callable[[], Tensor], batch: int) -> LinearPrior:
        """Return mean and covariance of a job's representation errors.

        Args:
            job: Its candidate says how many training pictures there are.
            solver: What inverts.
            axes: Called for those of the linear prior.
            batch: Pictures inverted at a time.
        """
        assert job.candidate is not None  # noqa: S101
        count, G, single = job.candidate.representation, solver.generator, solver.settings.changed(restarts=1)
        if not single.has_spread:
            single = single.changed(combination="best")  # which of one attempt it is
        about = [job.candidate.method, single.to_json(), solver.seed, count, weight_hash(G)]
        key = key_of([*about, self.training.identity])
        if key not in self._fitted:
            size = (3, G.resolution, G.resolution)

            def fit() -> Tensors:
                print(f"{job.name}: representation inverts {count} training pictures", flush=True)
                operator = make_operator(COMPLETE, size).to(G.device)
                truth, ids = self.training.drawn(count, "representation/pictures", G.device)
                alone = type(solver)(G, single, seed=solver.seed)
                x = in_batches(lambda y, ids: alone.invert(y, operator, ids).x, operator(truth, ids), ids, batch)
                found = fit_errors(axes(), truth - x)
                assert found.covariance is not None  # noqa: S101
                return {"mean": found.mean, "covariance": found.covariance}

            n = 3 * G.resolution**2
            tensors = kept("representation", key, {"mean": (n,), "covariance": (n, n)}, fit)
            self._fitted[key] = LinearPrior(size, tensors["mean"], covariance=tensors["covariance"])
        return self._fitted[key]
