"""The work of an evaluation as a flat list of jobs, resolved before anything runs.

A job is one method with one checkpoint under one condition, on all pictures. Dry run, run, resume, grids and records
read this list and nothing else. What a job's rows are found by is the hash of the very settings object that runs.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.evaluation.candidates import LEAST_PICTURES, Candidate
from rtil.evaluation.notes import MARK
from rtil.evaluation.rows import NO_CHECKPOINT, Level, RowKey, settings_hash
from rtil.inverse.operators import Operator
from rtil.inverse.registry import solver_class
from rtil.inverse.settings import SolverSettings
from rtil.inverse.solver import Solver
from rtil.snapshot import Snapshot

Record = dict[str, Any]
"""Everything that decides a result besides weights, pictures and seed, as JSON values."""


OF_TERM = ("perceptual", "perceptual_weight", "perceptual_mode", "policy", "measurement_weight")
"""Options that act with a perceptual term alone."""


class Measured(Protocol):
    """A condition: what is measured, under which name."""

    @property
    def task(self) -> str:
        """Name of the task."""

    @property
    def level(self) -> Level:
        """Its level."""

    @property
    def label(self) -> str:
        """For people."""

    @property
    def slug(self) -> str:
        """For file names."""


@dataclass(frozen=True)
class Job:
    """One line of the list.

    Attributes:
        condition: Task and level.
        method: Label of the candidate, or the name of a reference.
        checkpoint: Its name; ``-`` for references.
        record: What is recorded of it.
        keys: The row of each picture.
        candidate: The method as the user gave it; None for references.
        settings: What runs, for this checkpoint and condition; None for references.
        trained_otherwise: See :meth:`rtil.inverse.solver.Solver.trained_otherwise`.
    """

    condition: Measured
    method: str
    checkpoint: str
    record: Mapping[str, Any]
    keys: Sequence[RowKey]
    candidate: Candidate | None = None
    settings: SolverSettings | None = None
    trained_otherwise: bool = False

    @property
    def hash(self) -> str:
        """Of the record."""
        return self.keys[0].settings

    @property
    def selection(self) -> str:
        """Which iterate is returned; ``-`` for references."""
        return NO_CHECKPOINT if self.settings is None else self.settings.selection

    @property
    def name(self) -> str:
        """Method and checkpoint."""
        return self.method if self.settings is None else f"{self.method} {self.checkpoint}"

    @property
    def slug(self) -> str:
        """For file names."""
        return slug_of(self.condition, self.method, self.selection, self.checkpoint, self.hash)

    def describe(self) -> str:
        """Return a line for people, with steps and whatever is not a default."""
        mark = f" {MARK}" if self.trained_otherwise else ""
        line = f"{self.condition.label}: {self.name}"
        if self.candidate is None or self.settings is None:
            return line + mark
        first = getattr(self.settings, "before", None) or self.settings  # of a sparse deviation, what runs before it
        asked = dict(self.candidate.settings.unusual())
        asked |= asked.pop("before").unusual() if "before" in asked else {}
        has_term = "perceptual" in first.to_json()
        words = [f"{_text(getattr(first, 'steps', '?'))} steps"]
        for name, value in asked.items():
            if name == "perceptual" and not has_term:
                words.append(f"without {value}")
            elif name not in ("steps", "selection") and (has_term or name not in OF_TERM):
                words.append(f"{name} {_text(value)}")
        beyond = {name: getattr(self.candidate, name) for name in LEAST_PICTURES}
        words += [f"{name} {count}" for name, count in beyond.items() if count]
        return f"{line} {self.selection}{mark} ({', '.join(words)})"


def slug_of(condition: Measured, method: str, selection: str, checkpoint: str, settings: str) -> str:
    """Return the name of the folder of a job's pictures, from what its rows say."""
    parts = [condition.slug, method, selection, checkpoint, settings[:6]]
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "_".join(part for part in parts if part != NO_CHECKPOINT))


class Batch(NamedTuple):
    """What came of some pictures of a job.

    Attributes:
        x: Pictures [N, 3, R, R] in [0, 1].
        values: Fields of each picture's row, besides its key and what the job says.
        spread: [N, 3, R, R], standard deviations of the attempts whose mean x is; None of one attempt.
    """

    x: Tensor
    values: list[dict[str, Any]]
    spread: Tensor | None = None


class Grid(NamedTuple):
    """A picture of pictures, [N, 3, R, R] by the label of their column, with labels of the rows."""

    name: str
    columns: dict[str, Tensor]
    rows: Sequence[str] | None = None


class Experiment(ABC):
    """What is measured of which pictures, and what a result is worth.

    Attributes:
        ids: Of the pictures, by which all that is drawn for them is drawn.
        conditions: Under which each is measured.
        resolution: Side of the pictures.
        shown: How many of them grids show.
        kept: How many results of a job are kept as pictures, those of the grids among them.
        gone: Indices of pictures that a run goes on without: nothing more can be computed of them.
    """

    ids: Sequence[str]
    conditions: Sequence[Measured]
    resolution: int
    shown: int
    kept: int
    gone: Collection[int] = ()

    def content(self, index: int) -> str:
        """Return what tells a picture from any other under its id; "" where there is none."""
        return ""

    def originals(self) -> Tensor:
        """Return what kept results are compared with, [N, 3, R, R] in [0, 1]; nothing where there is no truth."""
        return torch.empty(0, 3, self.resolution, self.resolution)

    @abstractmethod
    def operator(self, condition: Any) -> Operator:
        """Return what measures, on the device of the checkpoints."""

    @abstractmethod
    def identity(self) -> Record:
        """Return what must not change when an evaluation is resumed."""

    @abstractmethod
    def recorded(self, condition: Any) -> Record:
        """Return what decides a result besides the method's own settings."""

    @abstractmethod
    def settings_for(self, candidate: Candidate, solver: Solver, operator: Operator) -> SolverSettings:
        """Return the settings with which a candidate runs on measurements by an operator.

        Raises:
            UserError: They do not fit these measurements.
        """

    def afterwards(self, candidate: Candidate, condition: Any) -> Record:
        """Return what is recorded of what becomes of a candidate's pictures.

        Raises:
            UserError: It is not for this experiment or condition.
        """
        for name in LEAST_PICTURES:
            if getattr(candidate, name):
                raise UserError(f"{name} is for reconstructions: leave it away")
        return {}

    @abstractmethod
    def references(self, condition: Any, operator: Operator) -> dict[str, Record]:
        """Return what is evaluated without a checkpoint: what is recorded of it, by its name."""

    @abstractmethod
    def invert(self, job: Job, solver: Solver | None, operator: Operator, indices: Sequence[int]) -> Batch:
        """Measure some pictures, invert the measurements, and judge; references have no solver."""

    @abstractmethod
    def grids(self, jobs: Sequence[Job], saved: "Saved") -> Iterator[Grid]:
        """Yield the grids of finished jobs."""

    @abstractmethod
    def plan(self) -> Iterator[str]:
        """Yield lines that say what is measured."""


class Saved(Protocol):
    """Returns the first pictures of a job, [N, 3, R, R] in [0, 1], as they were saved."""

    def __call__(self, job: Job, count: int) -> Tensor:
        """Read them."""

    def spread(self, job: Job, count: int) -> Tensor | None:
        """Read how sure each is, as colours; None where that was not saved."""


def resolve(
    experiment: Experiment, candidates: Sequence[Candidate], checkpoints: Mapping[str, Snapshot], seed: int
) -> list[Job]:
    """Return the list, condition by condition, references last in each.

    Args:
        experiment: What is measured.
        candidates: Methods with their settings.
        checkpoints: Snapshots by name.
        seed: Root seed.

    Raises:
        UserError: A setting is not valid for a checkpoint or a condition.
    """
    compared = [snapshot.info for snapshot in checkpoints.values()]
    solvers: list[tuple[Candidate, str, Solver]] = []
    for candidate in candidates:
        for name, snapshot in checkpoints.items():
            with candidate.named():
                own = candidate.settings_for(snapshot.generator.num_blocks, snapshot.info, compared)
                solvers.append((candidate, name, solver_class(candidate.method)(snapshot.generator, own, seed=seed)))
    jobs = []
    for condition in experiment.conditions:
        operator, common = experiment.operator(condition), experiment.recorded(condition)

        def keys(method: str, checkpoint: str, record: Record, condition: Measured = condition) -> list[RowKey]:
            place = (method, condition.task, condition.level, checkpoint, seed, settings_hash(record))
            return [RowKey(image, *place) for image in experiment.ids]

        for candidate, name, solver in solvers:
            with candidate.named():
                settings = experiment.settings_for(candidate, solver, operator)
                afterwards = experiment.afterwards(candidate, condition)
            record = common | {"method": candidate.method} | settings.to_json() | afterwards
            otherwise = solver.trained_otherwise(checkpoints[name].info)
            own_keys = keys(candidate.label, name, record)
            jobs.append(Job(condition, candidate.label, name, record, own_keys, candidate, settings, otherwise))
        for reference, of_reference in experiment.references(condition, operator).items():
            record = common | of_reference
            jobs.append(Job(condition, reference, NO_CHECKPOINT, record, keys(reference, NO_CHECKPOINT, record)))
    return jobs


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(_text(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)
