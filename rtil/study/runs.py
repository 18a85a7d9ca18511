"""The evaluations that a study comes to: each of its tables with each seed, and each tuned candidate.

A run is one evaluation's folder, made by the engine of ``rtil eval``: it restarts and shards as any evaluation does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtil.cli.eval import EvalOptions
from rtil.errors import UserError, unknown
from rtil.study.specification import SEED, Study, Table

EVALUATIONS, CHECKPOINTS, TUNING, ASIDE = "evaluations", "checkpoints", "tuning", "aside"
"""Folders of a study."""


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        evaluation: Name of its table.
        seed: Of operators, noise and starts.
        training_seed: Of its checkpoints; None where there are no several.
        table: Options of ``rtil eval``, but for checkpoints, seed and place.
        of: Candidate and checkpoint, of one that runs with tuned settings.
    """

    evaluation: str
    seed: int
    training_seed: int | None
    table: Table
    of: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        tuned = "" if self.of is None else f"-tuned-{'-'.join(self.of)}"
        training = "" if self.training_seed is None else f"-training{self.training_seed}"
        return f"{self.evaluation}{tuned}-seed{self.seed}{training}"

    def folder(self, out: Path) -> Path:
        """Return its folder in that of the study."""
        return out / EVALUATIONS / self.name


@dataclass(frozen=True)
class Candidate:
    """What is tuned: a method, or variant, of an evaluation with one checkpoint."""

    evaluation: str
    label: str
    checkpoint: str
    training_seed: int | None

    @property
    def name(self) -> str:
        """Of its folder."""
        training = "" if self.training_seed is None else f"-training{self.training_seed}"
        return f"{self.evaluation}-{self.label}-{self.checkpoint}{training}"


def training_seeds(study: Study) -> Sequence[int | None]:
    """Return the training seeds; [None] where checkpoints have no several."""
    return list(study.training_seeds) or [None]


def plain_runs(study: Study) -> list[Run]:
    """Return the runs with the study's own settings."""
    return [
        Run(name, seed, training, table)
        for name, table in study.evaluations.items()
        for training in training_seeds(study)
        for seed in study.seeds
    ]


def candidates(study: Study) -> list[Candidate]:
    """Return what is tuned.

    Raises:
        UserError: A name is not that of a method or variant of an evaluation.
    """
    if study.tune is None:
        return []
    found, labels = [], dict[str, list[str]]()
    for evaluation in study.tune.evaluations:
        options = study.options(evaluation)
        labels[evaluation] = list(options.method if options.variants is None else options.variants)
    for label in study.tune.settings:
        if not any(label in of for of in labels.values()):
            valid = [one for of in labels.values() for one in of]
            raise unknown(f"method or variant of tune of study {study.name}", label, dict.fromkeys(valid))
    for evaluation, of in labels.items():
        found += [
            Candidate(evaluation, label, checkpoint, training)
            for label in of
            if label in study.tune.settings
            for checkpoint in study.checkpoints
            for training in training_seeds(study)
        ]
    return found


def variant_of(study: Study, candidate: Candidate) -> Table:
    """Return the study's own settings of a candidate, as a variant."""
    variants = study.options(candidate.evaluation).variants
    own: Table = {"method": candidate.label} if variants is None else variants[candidate.label]
    return {"method": candidate.label, **own}


def as_variants(study: Study, evaluation: str, variants: Mapping[str, Table], **changes: Any) -> Table:
    """Return an evaluation's table with variants in place of its methods, and nothing that has no checkpoint."""
    table = {name: value for name, value in study.evaluations[evaluation].items() if name not in ("method", "variants")}
    return {**table, "variants": {**variants}, "baselines": [], "linear": False, **changes}


def options_of_run(study: Study, run: Run, out: Path, **process: Any) -> EvalOptions:
    """Return the options of a run.

    Args:
        study: Whose it is.
        run: The run.
        out: The study's folder.
        process: What is the process' own: device, devices, shard, batch.
    """
    names = list(study.checkpoints) if run.of is None else [run.of[1]]
    paths = {name: str(checkpoint_path(study, name, run.training_seed, out)) for name in names}
    given = {name: value for name, value in process.items() if value is not None}
    with_table = Study(**(vars(study) | {"evaluations": {run.evaluation: run.table}, "tune": None, "figures": {}}))
    return with_table.options(run.evaluation, checkpoints=paths, seed=run.seed, out=str(run.folder(out)), **given)


def checkpoint_path(study: Study, name: str, training_seed: int | None, out: Path) -> Path | str:
    """Return where a checkpoint is, or will be.

    Raises:
        UserError: The study leaves that to the user, who has not said it.
    """
    checkpoint = study.checkpoints[name]
    if checkpoint.train is not None:
        return training_folder(name, training_seed, out)
    if checkpoint.path is None:
        valid = " ".join(f"{n}=PATH" for n, one in study.checkpoints.items() if one.path is None and one.train is None)
        size = f" at size {study.size}" if study.size else ""
        raise UserError(f"study {study.name}{size} has no checkpoint '{name}' of its own: add --checkpoints {valid}")
    return checkpoint.path.replace(SEED, str(training_seed))


def training_folder(name: str, training_seed: int | None, out: Path) -> Path:
    """Return the folder of a checkpoint that the study trains."""
    return out / CHECKPOINTS / (name if training_seed is None else f"{name}-training{training_seed}")
