"""Fair tuning: every candidate, a method with a checkpoint, gets the same number of trials on validation pictures.

The first trial is the study's own settings, so that what is chosen is never worse than these where it was chosen; the
others are proposed by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), whose draws for trial t are
seeded by (seed, candidate, t). What was tried is read again from ``trials.csv``, so a tuning that was killed goes on
and proposes what it would have proposed. A trial is a few rows of an evaluation, keyed by its settings as all rows are:
those that a kill left are not computed again.

No test picture can be used: pictures are compared by the hash of their pixels, whatever their names and folders.
"""

import csv
import importlib.util
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtil.cli.comparison import open_evaluation, options_table
from rtil.cli.eval import EvalOptions
from rtil.errors import UserError
from rtil.evaluation.evaluation import Evaluation
from rtil.evaluation.jobs import resolve
from rtil.evaluation.rows import Row
from rtil.evaluation.runner import Runner
from rtil.files import write_text, writing
from rtil.seeds import derive_seed
from rtil.study.runs import TUNING, Candidate, as_variants, checkpoint_path, variant_of
from rtil.study.specification import Range, Study, Table

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TRIALS = "trials.csv"
OWN = "own"
"""Who proposed the first trial."""
STARTUP_SHARE = 3
"""One of so many trials is drawn at random before the estimator has something to go by."""


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        number: From 0.
        by: Who proposed it: ``own`` or ``tpe``.
        settings: What it changes in the study's own settings.
        psnr: Mean over conditions and validation pictures, dB.
        n: Rows.
        seconds: Of all of its inversions.
    """

    number: int
    by: str
    settings: Table
    psnr: float
    n: int
    seconds: float


@dataclass(frozen=True)
class Choice:
    """What tuning came to.

    Attributes:
        candidate: Whose settings they are.
        trials: All that were tried.
    """

    candidate: Candidate
    trials: Sequence[Trial]

    @property
    def best(self) -> Trial:
        """The trial of highest PSNR, the first of equal ones."""
        return max(self.trials, key=lambda trial: (trial.psnr, -trial.number))


def folder_of(candidate: Candidate, out: Path) -> Path:
    """Return the folder of a candidate's trials."""
    return out / TUNING / candidate.name


def check_disjoint(validation: Evaluation, test: Collection[str], where: str) -> None:
    """Refuse to tune on test pictures.

    Args:
        validation: What is tuned on.
        test: Hashes of all test pictures.
        where: For messages.

    Raises:
        UserError: A picture is among both.
    """
    content = dict(zip(validation.content, validation.experiment.ids, strict=True))
    both = [name for digest, name in content.items() if digest and digest in test]
    if both:
        raise UserError(
            f"{where}: {len(both)} of {len(content)} pictures to tune on are test pictures (first: {both[0]!r}): give "
            "another split or data to tune"
        )


class Tuning:
    """A candidate's tuning, opened.

    Args:
        study: Whose candidate it is.
        candidate: The candidate.
        out: The study's folder.
        test: Hashes of the pixels of all test pictures.
        process: Options that are the process' own.

    Raises:
        UserError: A setting is not valid, or a picture is a test picture.
    """

    def __init__(
        self, study: Study, candidate: Candidate, out: Path, test: Collection[str], process: Mapping[str, Any]
    ) -> None:
        assert study.tune is not None  # noqa: S101  runs.candidates
        if importlib.util.find_spec("optuna") is None:
            raise UserError("tuning needs Optuna: pip install rtil[study]")
        self.study, self.candidate, self.tune = study, candidate, study.tune
        self.ranges = self.tune.settings[candidate.label]
        self.folder = folder_of(candidate, out)
        path = str(checkpoint_path(study, candidate.checkpoint, candidate.training_seed, out))
        self._more = {"checkpoints": {candidate.checkpoint: path}, "seed": study.seeds[0]}
        self._more |= {name: value for name, value in process.items() if name in ("device", "batch")}
        self.evaluation = open_evaluation(self._options({}))
        self.evaluation.experiment.kept = self.evaluation.experiment.shown = 0  # nobody looks at trials
        check_disjoint(self.evaluation, test, f"tune of study {study.name}")
        for name, values in self.ranges.items():
            for value in _ends(values):
                self._options({name: value}).candidates()

    def run(self) -> Choice:
        """Make the trials that are missing."""
        trials = read_trials(self.folder, self._key())
        while len(trials) < self.tune.trials:
            settings, by = ({}, OWN) if not trials else (self._proposed(trials), "tpe")
            rows = self._rows(settings)
            psnr, seconds = (float(np.mean([getattr(row, name) for row in rows])) for name in ("psnr", "seconds"))
            trials.append(Trial(len(trials), by, settings, psnr, len(rows), seconds * len(rows)))
            write_trials(self.folder, self._key(), trials)
            best = Choice(self.candidate, trials).best
            told = _told(settings) or "the study's own settings"
            print(
                f"{self.candidate.name}, trial {len(trials)}/{self.tune.trials}: {psnr:.2f} dB with {told} "
                f"(best {best.psnr:.2f})",
                flush=True,
            )
        return Choice(self.candidate, trials[: self.tune.trials])

    def _options(self, settings: Table) -> EvalOptions:
        variant = {**variant_of(self.study, self.candidate), **settings}
        tune = self.tune
        changes = {"images": tune.images, "lpips": "none", "split": tune.split, "pictures": "drawn"}
        changes |= {} if tune.data is None else {"data": tune.data}
        table = as_variants(self.study, self.candidate.evaluation, {self.candidate.label: variant}, **changes)
        one = {self.candidate.evaluation: table}
        study = replace(self.study, evaluations=one, tune=None, figures={})
        return study.options(self.candidate.evaluation, **self._more)

    def _rows(self, settings: Table) -> list[Row]:
        options, opened = self._options(settings), self.evaluation
        jobs = resolve(opened.experiment, options.candidates(), opened.checkpoints, opened.seed)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        runner = Runner(opened.experiment, jobs, opened.checkpoints, self.folder, opened.seed, options.batch)
        keys = {key for job in jobs for key in job.keys}
        return [row for row in runner.run() if row.key in keys]

    def _key(self) -> str:
        """Return a text that says what trials depend on besides their settings."""
        options = options_table(self._options({}))
        weights = {name: snapshot.weight_hash for name, snapshot in self.evaluation.checkpoints.items()}
        of = {name: value for name, value in options.items() if name not in ("device", "batch", "checkpoints")}
        ranges = {name: vars(one) for name, one in self.ranges.items()}
        whole = [of, weights, ranges, self.evaluation.content]
        return f"{derive_seed(0, json.dumps(whole, sort_keys=True)):016x}"

    def _proposed(self, trials: Sequence[Trial]) -> Table:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        distributions = {name: _distribution(one) for name, one in self.ranges.items()}
        seed = derive_seed(self.study.seeds[0], "study/tune", self.candidate.name, len(trials)) % 2**32
        startup = max(2, self.tune.trials // STARTUP_SHARE)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in trials:
            given = {name: _encoded(self.ranges[name], value) for name, value in trial.settings.items()}
            own = {name: distributions[name] for name in given}
            study.add_trial(optuna.trial.create_trial(params=given, distributions=own, value=trial.psnr))
        asked = study.ask(distributions)
        return {name: _decoded(self.ranges[name], value) for name, value in asked.params.items()}


def read_trials(folder: Path, key: str | None = None) -> list[Trial]:
    """Return the trials of a folder; none where they were made with other pictures, weights, ranges or options.

    Args:
        folder: Of a candidate.
        key: What they depend on; None for whatever is there.
    """
    path = folder / TRIALS
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if key is None or line["key"] == key]
    return [
        Trial(
            int(line["trial"]), line["by"], json.loads(line["settings"]), float(line["psnr"]), int(line["n"]),
            float(line["seconds"]),
        )
        for line in lines
    ]  # fmt: skip


def write_trials(folder: Path, key: str, trials: Sequence[Trial]) -> None:
    """Write all trials of a candidate, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "by", "settings", "psnr", "n", "seconds", "key"])
    for trial in trials:
        settings = json.dumps(trial.settings)
        writer.writerow([trial.number, trial.by, settings, repr(trial.psnr), trial.n, f"{trial.seconds:.3f}", key])
    write_text(folder / TRIALS, text.getvalue())


def told(trial: Trial) -> str:
    """Return a trial's settings for people."""
    return _told(trial.settings) or "the study's own settings"


def _told(settings: Table) -> str:
    def text(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else json.dumps(value)

    return ", ".join(f"{name} {text(value)}" for name, value in settings.items())


def _ends(values: Range) -> Sequence[Any]:
    return [values.low, values.high] if values.choices is None else values.choices


def _distribution(values: Range) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values.choices is not None:
        return CategoricalDistribution([json.dumps(choice) for choice in values.choices])
    low, high = values.low, values.high
    assert low is not None and high is not None  # noqa: S101, PT018  Range.check
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=values.log)
    return FloatDistribution(low, high, log=values.log)


def _encoded(values: Range, value: Any) -> Any:
    return value if values.choices is None else json.dumps(value)


def _decoded(values: Range, value: Any) -> Any:
    if values.choices is not None:
        return json.loads(value)
    return float(f"{value:.4g}") if isinstance(value, float) else value  # digits that a table can show
