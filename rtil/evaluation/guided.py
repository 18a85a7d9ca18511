"""The task ``classifier``: pictures that a classifier takes for a class (Daras et al., ICML 2021, 4.3 and figure 5).

There is nothing to reconstruct. A condition is a class, a column of the grid a factor of the radii of the l1 balls,
which decide how far pictures leave the generator's range. All jobs of a checkpoint start from the same pictures, drawn
by their number. What a picture is worth is told of the 8-bit picture that is saved, so that a probability is that of
what one sees.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.evaluation.candidates import CLASSIFIER, Candidate
from rtil.evaluation.jobs import Batch, Experiment, Grid, Job, Record, Saved
from rtil.generators.base import weight_hash
from rtil.inverse.classifier import Classification
from rtil.inverse.operators import Operator
from rtil.inverse.registry import solver_class
from rtil.inverse.settings import SolverSettings
from rtil.inverse.solver import Solver
from rtil.ranges import to_uint8
from rtil.snapshot import Snapshot
from rtil.weights.classifiers import Classifier

METHODS_WITH_BALLS = ("ilo", "csgm")
NO_BALL = "none"
STANDARD_RADII = "a61-1"
RADII = ("radius_noise", "radius_latent", "radius_feature")


@dataclass(frozen=True)
class WantedClass:
    """A condition: one class of the classifier."""

    index: int
    level: str
    task: str = CLASSIFIER

    @property
    def label(self) -> str:
        """For people."""
        return self.level

    @property
    def slug(self) -> str:
        """For file names."""
        return re.sub(r"[^A-Za-z0-9._+-]+", "-", f"{self.index}-{self.level}")


def balls(candidates: Sequence[Candidate], scales: Sequence[str]) -> dict[str, tuple[Candidate, str]]:
    """Return each candidate with every factor of its radii, by label.

    Raises:
        UserError: A method has no balls, or a factor is not valid.
    """
    for candidate in candidates:
        if candidate.method not in METHODS_WITH_BALLS:
            valid = ", ".join(METHODS_WITH_BALLS)
            raise UserError(f"method '{candidate.method}' has no task classifier: valid are {valid}")
    found = {}
    for candidate in candidates:
        for scale in check_radii(scales):
            label = f"{candidate.label}-{'free' if scale == NO_BALL else f'r{scale}'}"
            found[label] = candidate._replace(label=label), scale
    return found


def check_radii(scales: Sequence[str]) -> list[str]:
    """Return factors of radii as plain text.

    Raises:
        UserError: None, one twice, or one that is neither a number of 0 or more nor "none".

    Example:
        >>> check_radii(["0.50", "2", "none"])
        ['0.5', '2', 'none']
    """
    found = []
    for scale in scales:
        try:
            found.append(NO_BALL if scale == NO_BALL else f"{float(scale):g}")
        except ValueError:
            found.append("nan")
    if not found or len(set(found)) != len(found) or any(s != NO_BALL and not 0 <= float(s) < 1e9 for s in found):
        raise UserError(
            f"radius_scales is {','.join(scales) or 'empty'}: valid are numbers of 0 or more and none, each once, such "
            "as 0.25,1,4,none"
        )
    return found


class Guided(Experiment):
    """See the module.

    Args:
        classifier: On the checkpoints' device.
        classes: Wanted classes, by name or number.
        scales: Factor of the radii of each candidate, by its label; from :func:`balls`.
        checkpoints: Snapshots by name.
        pictures: Pictures of each class and radius.
        seed: Root seed.

    Raises:
        UserError: A class does not exist, or is there twice.
    """

    def __init__(
        self,
        classifier: Classifier,
        classes: Sequence[str],
        scales: Mapping[str, str],
        checkpoints: Mapping[str, Snapshot],
        pictures: int,
        seed: int = 0,
    ) -> None:
        indices = [classifier.find_class(name) for name in classes]
        if len(set(indices)) != len(indices):
            raise UserError(f"classes is {','.join(classes)}: name each once")
        self.classifier, self.scales, self.checkpoints, self.seed = classifier, scales, checkpoints, seed
        self.conditions: Sequence[WantedClass] = [WantedClass(i, classifier.categories[i]) for i in indices]
        self.ids = [f"generated-{number}" for number in range(pictures)]
        self.shown = self.kept = pictures
        self.resolution = max(snapshot.generator.resolution for snapshot in checkpoints.values())
        self.tasks = {name: self._task(snapshot) for name, snapshot in checkpoints.items()}
        self._hash = weight_hash(classifier)

    def operator(self, condition: WantedClass) -> Classification:
        """Return the classifier as what measures pictures of the first checkpoint's size, whatever the class."""
        return next(iter(self.tasks.values()))

    def identity(self) -> Record:
        """Return nothing: rows say all."""
        return {}

    def recorded(self, condition: WantedClass) -> Record:
        """Return classifier and class."""
        of_classifier = {"source": self.classifier.source, "weights": self._hash, "side": self.classifier.side}
        return {"classifier": of_classifier, "class": condition.index}

    def settings_for(self, candidate: Candidate, solver: Solver, operator: Operator) -> SolverSettings:
        """Return the settings with the radii of the candidate's column: its own times the factor, else RTIL's first."""
        settings, scale = solver.settings_for(operator), self.scales[candidate.label]
        own = [name for name in RADII if getattr(settings, name, None) is not None]
        if scale == NO_BALL:
            return replace(settings, **dict.fromkeys(own))
        if not own:
            standard = replace(settings, radii=STANDARD_RADII)
            settings = type(solver)(solver.generator, standard, seed=self.seed).settings
            own = [name for name in RADII if getattr(settings, name, None) is not None]
        return replace(settings, **{name: _scaled(getattr(settings, name), float(scale)) for name in own})

    def references(self, condition: WantedClass, operator: Operator) -> dict[str, Record]:
        """Return none."""
        return {}

    def plan(self) -> Iterator[str]:
        """Yield classifier and number of pictures."""
        count = len(self.classifier.categories)
        yield f"classifier: {self.classifier.source}, {count} classes, at {self.classifier.side} px"
        yield f"{len(self.ids)} pictures of each class and radius, all from the same starts"

    def invert(self, job: Job, solver: Solver | None, operator: Operator, indices: Sequence[int]) -> Batch:
        """Make some of the pictures of a class; see :meth:`Experiment.invert`."""
        assert solver is not None and isinstance(job.condition, WantedClass)  # noqa: S101, PT018
        wanted, ids = job.condition.index, [self.ids[index] for index in indices]
        task = self.tasks[job.checkpoint]
        before = self._starts(job, ids)
        found = solver.invert(task.target([wanted] * len(ids)), task, ids)
        after = as_saved(found.x)
        with torch.no_grad():
            p_before, p_after = task.A(before).exp().cpu(), task.A(after).exp().cpu()
        change = (after - before).square().mean((1, 2, 3)).sqrt().tolist()
        names = self.classifier.categories
        values: list[dict[str, Any]] = []
        for n, status in enumerate(found.status):
            scores = {
                "probability_before": p_before[n, wanted].item(),
                "probability_after": p_after[n, wanted].item(),
                "top_before": names[int(p_before[n].argmax())],
                "top_after": names[int(p_after[n].argmax())],
                "rms_change": change[n],
            }
            values.append({"status": status, "seconds": found.seconds / len(ids), "scores": scores})
        return Batch(found.x, values)

    def grids(self, jobs: Sequence[Job], saved: Saved) -> Iterator[Grid]:
        """Yield a grid for each method and checkpoint: the start and every radius; a class has its rows."""
        count = len(self.ids)
        rows = [condition.level for condition in self.conditions for _ in range(count)]
        for method, checkpoint in dict.fromkeys((_method(job), job.checkpoint) for job in jobs):
            own = [job for job in jobs if (_method(job), job.checkpoint) == (method, checkpoint)]
            columns = {"start": torch.cat([self._starts(own[0], self.ids).cpu()] * len(self.conditions))}
            for label in dict.fromkeys(job.method for job in own):
                scale = self.scales[label]
                name = "no ball" if scale == NO_BALL else f"radius {scale}"
                columns[name] = torch.cat([saved(job, count) for job in own if job.method == label])
            yield Grid(f"grid-{method}-{checkpoint}", columns, rows)

    def _task(self, snapshot: Snapshot) -> Classification:
        G = snapshot.generator
        size = (3, G.resolution, G.resolution)
        return Classification(self.classifier, size, len(self.classifier.categories)).to(G.device)

    def _starts(self, job: Job, ids: Sequence[str]) -> Tensor:
        """Return the pictures at which the jobs of a checkpoint start: after no step."""
        assert job.settings is not None  # noqa: S101
        method, snapshot = _method(job), self.checkpoints[job.checkpoint]
        still = {"steps": (0,) if method == "ilo" else 0, "restarts": 1, **dict.fromkeys(RADII)}
        names = vars(job.settings)
        values = names | {name: value for name, value in still.items() if name in names}
        values |= {"range_projection": 0, "lr": _first(names["lr"])} if method == "ilo" else {}
        settings = type(job.settings)(**values)
        solver = solver_class(method)(snapshot.generator, settings, seed=self.seed)
        task = self.tasks[job.checkpoint]
        return as_saved(solver.invert(task.target([0] * len(ids)), task, ids).x)


def as_saved(x: Tensor) -> Tensor:
    """Return pictures [N, 3, H, W] in [0, 1] as they are after 8-bit rounding."""
    return to_uint8(x).float() / 255


def _method(job: Job) -> str:
    assert job.candidate is not None  # noqa: S101
    return job.candidate.method


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) else value


def _scaled(radius: Any, factor: float) -> Any:
    return tuple(factor * r for r in radius) if isinstance(radius, tuple | list) else factor * radius
