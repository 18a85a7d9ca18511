"""What a study is: checkpoints, evaluations, seeds, tuning and figures, checked against each other.

An evaluation is a table of the options of ``rtil eval``, read by the reader of that command; which checkpoints, which
seed and which folder are the study's affair.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rtil.cli.common import options_of
from rtil.cli.eval import EvalOptions, nested, short
from rtil.errors import UserError, unknown

Size = Literal["quick", "paper"]
SIZES: Sequence[Size] = get_args(Size)
Kind = Literal["levels_curve", "rounds", "ablation_bars", "error_vs_seconds", "tuning_trace"]
Metric = Literal["psnr", "ssim", "lpips", "squared_error"]
Table = Mapping[str, Any]
SEED = "{seed}"
"""In a checkpoint's path stands for the training seed."""
NAME = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"


@dataclass(frozen=True)
class Checkpoint:
    """A prior that is compared.

    Attributes:
        path: Where it is: a snapshot, a run folder, ``shipped:rtil``, ...; None for one that is to be named or trained.
        train: Options of ``rtil train`` that make it, ``config`` being a preset or file.
    """

    path: str | None = None
    train: Table | None = None


@dataclass(frozen=True)
class Range:
    """Values that a setting may have while it is tuned: choices, or the numbers from low to high.

    Attributes:
        low: Smallest number.
        high: Largest number; whole numbers, if both are.
        log: Whether factors count, not differences.
        choices: In place of numbers, these values.
    """

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: Sequence[Any] | None = None

    def check(self, where: str) -> None:
        """Raise UserError unless it is a range."""
        low, high = self.low, self.high
        if self.choices is not None:
            if low is not None or high is not None or self.log or len(self.choices) < 2:
                raise UserError(f"{where}: choices is a list of two or more values, without low, high and log")
        elif low is None or high is None or not low < high or (self.log and low <= 0):
            raise UserError(f"{where} is from {low} to {high}: valid is low < high (above 0 with log), or choices")


@dataclass(frozen=True)
class Tune:
    """How settings are chosen, by pictures that are no test pictures.

    Attributes:
        evaluations: Of the study, whose methods are tuned.
        settings: {candidate: {setting: range}}; a candidate is a method, or the name of a variant.
        trials: Of each candidate with each checkpoint, the first with the study's own settings.
        images: Validation pictures.
        data: Where they come from; None is where the evaluation's own do.
        split: Their part.
    """

    evaluations: Sequence[str]
    settings: Mapping[str, Mapping[str, Range]]
    trials: int = 16
    images: int = 16
    data: str | None = None
    split: Literal["validation", "test"] | None = "validation"


@dataclass(frozen=True)
class FigureSpec:
    """A figure.

    Attributes:
        kind: ``levels_curve``: a metric against the level of each task; ``rounds``: PSNR after each round;
            ``ablation_bars``: a metric by variant, in groups by level; ``error_vs_seconds``: a metric against the
            seconds that a picture takes; ``tuning_trace``: the best trial so far.
        title: What is above it.
        evaluations: Whose results; empty for all.
        metrics: Panels for each task.
        lines: Only these, ``METHOD CHECKPOINT``; empty for all.
        curves: Of ``error_vs_seconds``: methods that are points of one curve, by its name.
        published: Exhibit of ``published.csv`` whose numbers are drawn beside ours.
    """

    kind: Kind
    title: str = ""
    evaluations: Sequence[str] = ()
    metrics: Sequence[Metric] = ("psnr",)
    lines: Sequence[str] = ()
    curves: Mapping[str, Sequence[str]] = field(default_factory=dict)
    published: str = ""


@dataclass(frozen=True)
class Given:
    """What a command gives in place of what a study's file says.

    Attributes:
        checkpoints: Paths by name.
        options: Of ``rtil eval``, by name, in every evaluation.
        trials: Of tuning; None for the file's own number.
    """

    checkpoints: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    trials: int | None = None

    def words(self) -> list[str]:
        """Return it as the arguments of the command."""
        found = []
        for name, values in (("--checkpoints", self.checkpoints), ("--eval", self.options)):
            found += [name, *(f"{key}={value}" for key, value in values.items())] if values else []
        return [*found, *(["--trials", str(self.trials)] if self.trials is not None else [])]


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        name: Of its file.
        source: As it was asked for: the name of a preset, or the path of a file.
        size: ``quick`` or ``paper``; "" of a file without sizes.
        title: What it is, in a line.
        exhibit: What it is made after: paper and number.
        note: What is particular about it.
        checkpoints: By name.
        evaluations: Tables of options by name.
        seeds: Of operators, noise and starts; each evaluation is made with each.
        training_seeds: Of checkpoints; with several, each is there once for each.
        tune: None for a study without tuning.
        figures: By name.
        ratios: Pairs ``A / B`` of methods whose errors are compared.
        given: What of it the command gave.
    """

    name: str
    source: str
    size: str
    title: str
    checkpoints: Mapping[str, Checkpoint]
    evaluations: Mapping[str, Table]
    exhibit: str = ""
    note: str = ""
    seeds: Sequence[int] = (0,)
    training_seeds: Sequence[int] = ()
    tune: Tune | None = None
    figures: Mapping[str, FigureSpec] = field(default_factory=dict)
    ratios: Sequence[str] = ()
    given: Given = Given()

    def __post_init__(self) -> None:
        where = f"study {self.name}"
        for what, names in (
            ("checkpoint", self.checkpoints),
            ("evaluation", self.evaluations),
            ("figure", self.figures),
        ):
            for name in names:
                if not re.fullmatch(NAME, name):
                    raise UserError(f"{where}: {what} name {name!r} is not valid: use letters, digits, _.+-")
        for what, seeds in (("seeds", self.seeds), ("training_seeds", self.training_seeds)):
            if len(set(seeds)) != len(seeds) or (what == "seeds" and not seeds):
                raise UserError(f"{where}: {what} is {list(seeds)}: name each once, and one at least")
        if not self.evaluations or not self.checkpoints:
            raise UserError(f"{where} needs checkpoints and evaluations, one of each at least")
        for name, checkpoint in self.checkpoints.items():
            fixed = checkpoint.train is None and checkpoint.path is not None and SEED not in checkpoint.path
            if self.training_seeds and fixed:
                raise UserError(
                    f"{where}: checkpoint {name} is the same for all training_seeds: write {SEED} in its path, or "
                    "train it"
                )
        named = [(f"figure {name}", figure.evaluations) for name, figure in self.figures.items()]
        named += [("tune", self.tune.evaluations)] if self.tune else []
        for what, evaluations in named:
            for evaluation in evaluations:
                if evaluation not in self.evaluations:
                    raise unknown(f"evaluation of {what} of {where}", evaluation, self.evaluations)
        for pair in self.ratios:
            if len(pair.split(" / ")) != 2:
                raise UserError(f"{where}: ratio '{pair}' is not 'METHOD / METHOD'")
        if any(figure.kind == "tuning_trace" for figure in self.figures.values()) and self.tune is None:
            raise UserError(f"{where}: a tuning_trace needs tune")

    @property
    def label(self) -> str:
        """Its name, with its size where it has one; also of its folder."""
        return "-".join(part for part in (self.name, self.size) if part)

    def command(self) -> str:
        """Return the command that makes it."""
        size = ["--size", self.size] if self.size else []
        return shlex.join(["rtil", "study", self.source, *size, *self.given.words()])

    def options(self, name: str, **more: Any) -> EvalOptions:
        """Return an evaluation's options as its command would build them, with others besides.

        Raises:
            UserError: One is unknown or not valid.
        """
        table = dict(self.evaluations[name]) | more
        options: EvalOptions = options_of(
            EvalOptions, table, f"evaluations: {name} of study {self.name}", nested(), short()
        )
        return options
