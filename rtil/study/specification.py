"""What a study is: its file, read and checked.

Two tables of the file, ``quick`` and ``paper``, are its sizes: what they hold goes over what stands beside them, table
by table, so that an exhibit is told once. An evaluation is a table of the options of ``rtil eval``, read by the reader
of that command; which checkpoints, which seed and which folder are the study's affair.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from rtil.cli.common import options_of
from rtil.cli.eval import EvalOptions, nested, short
from rtil.cli.values import read_yaml
from rtil.errors import UserError, unknown
from rtil.presets import config_path
from rtil.schema import shown, typed_table

Size = Literal["quick", "paper"]
SIZES: Sequence[Size] = get_args(Size)
Kind = Literal["levels_curve", "rounds", "ablation_bars", "error_vs_seconds", "tuning_trace"]
Metric = Literal["psnr", "ssim", "lpips", "squared_error"]
Table = Mapping[str, Any]
OF_THE_STUDY = ("checkpoints", "seed", "out", "resume", "shard", "devices", "device")
"""Options of an evaluation that are not for its table."""
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
class Study:
    """A study.

    Attributes:
        name: Of its file.
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
    """

    name: str
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


def read_study(
    name: str,
    size: str | None = None,
    checkpoints: Mapping[str, str] | None = None,
    changes: Mapping[str, str] | None = None,
) -> Study:
    """Read a study.

    Args:
        name: A preset, or the path of a YAML file.
        size: ``quick`` or ``paper``; None is the first that the file has.
        checkpoints: Paths in place of the study's.
        changes: Options of every evaluation in place of the study's own.

    Raises:
        UserError: The file is not a study, or something in it is not valid; it says where.
    """
    path = config_path(name, "study")
    table, chosen = _of_size(dict(read_yaml(path)), size, path)
    where = str(path)
    kinds = get_type_hints(Study)
    simple = {n: kinds[n] for n in ("title", "exhibit", "note", "seeds", "training_seeds", "ratios")}
    for key in table:
        if key not in {f.name for f in fields(Study)} - {"name", "size"}:
            raise unknown(f"key in {where}", key, [f.name for f in fields(Study) if f.name not in ("name", "size")])
    values = typed_table({key: table[key] for key in simple if key in table}, simple, where)
    if "title" not in values:
        raise UserError(f"{where} has no title: say in a line what the study is")
    found = _table(table.get("checkpoints", {}), f"checkpoints in {where}")
    priors = {key: _checkpoint(value, f"checkpoints: {key} in {where}") for key, value in found.items()}
    for given in checkpoints or {}:
        if given not in priors:
            raise unknown(f"checkpoint of study {path.stem}", given, priors)
    priors |= {key: Checkpoint(value) for key, value in (checkpoints or {}).items()}
    evaluations = _tables(table.get("evaluations", {}), f"evaluations in {where}")
    for key, evaluation in evaluations.items():
        wrong = [option for option in OF_THE_STUDY if option in evaluation]
        if wrong:
            raise UserError(f"evaluations: {key} in {where} has {wrong[0]}, which is the study's own: leave it away")
    tune = None if table.get("tune") is None else _tune(table["tune"], f"tune in {where}")
    drawn = _tables(table.get("figures", {}), f"figures in {where}")
    figures = {key: _read(FigureSpec, value, f"figures: {key} in {where}") for key, value in drawn.items()}
    changed = {key: _changed(evaluation, changes or {}) for key, evaluation in evaluations.items()}
    study = Study(path.stem, chosen, checkpoints=priors, evaluations=changed, tune=tune, figures=figures, **values)
    for key in evaluations:
        study.options(key)
    return study


def sizes_of(name: str) -> Sequence[str]:
    """Return the sizes of a study's file, [""] of one without."""
    table = read_yaml(config_path(name, "study"))
    return [size for size in SIZES if size in table] or [""]


def merged(below: Table, above: Table) -> dict[str, Any]:
    """Return two tables as one; where both have a table, likewise, else what is above.

    Example:
        >>> merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}})
        {'a': {'b': 4, 'c': 2}, 'd': 3}
    """
    both = {
        key: merged(below[key], value) if isinstance(value, Mapping) and isinstance(below.get(key), Mapping) else value
        for key, value in above.items()
    }
    return {**below, **both}


def _of_size(table: dict[str, Any], size: str | None, path: Path) -> tuple[dict[str, Any], str]:
    there: dict[str, dict[str, Any]] = {
        name: _table(table.pop(name) or {}, f"{name} in {path}") for name in SIZES if name in table
    }
    if size is not None and size not in there:
        has = ", ".join(there) or "none"
        raise UserError(f"{path} has no size '{size}': it has {has}")
    chosen = size or next(iter(there), "")
    return (merged(table, there[chosen]) if chosen else table), chosen


def _changed(evaluation: Table, changes: Mapping[str, str]) -> Table:
    """Return an evaluation's table with other options; steps and their presets say the same thing."""
    same = {"steps": "steps_preset", "steps_preset": "steps", "method": "variants", "variants": "method"}
    gone = {same[key] for key in changes if key in same}
    return {key: value for key, value in evaluation.items() if key not in gone} | dict(changes)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is {shown(value)}: give a table")
    return {str(key): entry for key, entry in value.items()}


def _tables(value: Any, where: str) -> dict[str, dict[str, Any]]:
    return {key: _table(entry, f"{where}: {key}") for key, entry in _table(value, where).items()}


def _checkpoint(value: Any, where: str) -> Checkpoint:
    if value is None or isinstance(value, str):
        return Checkpoint(value)
    table = dict(value) if isinstance(value, Mapping) else {}
    if list(table) != ["train"]:
        raise UserError(f"{where} is {shown(value)}: valid is a path, null, or a table train of options of rtil train")
    return Checkpoint(train=_table(table["train"], f"train of {where}"))


def _tune(value: Any, where: str) -> Tune:
    table = _table(value, where)
    settings = {
        candidate: {name: _range(one, f"settings: {candidate}: {name} of {where}") for name, one in ranges.items()}
        for candidate, ranges in _tables(table.pop("settings", {}), f"settings of {where}").items()
    }
    if not settings or not all(settings.values()):
        raise UserError(f"{where} has no settings: give ranges by candidate, as ilo: {{lr: {{low: 0.02, high: 0.5}}}}")
    tune = _read(Tune, table, where, settings=settings)
    for name in ("trials", "images"):
        if getattr(tune, name) < 1:
            raise UserError(f"{name} of {where} is {getattr(tune, name)}: valid is a whole number of 1 or more")
    return tune


def _range(value: Any, where: str) -> Range:
    table = _table(value, where)
    numbers = {name: table[name] for name in ("low", "high") if name in table}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise UserError(f"{name} of {where} is {shown(number)}: valid is a number")
    rest = typed_table({n: v for n, v in table.items() if n not in numbers}, _kinds(Range), where)
    found = Range(**numbers, **rest)
    found.check(where)
    return found


Of = TypeVar("Of")


def _kinds(cls: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def _read(cls: Callable[..., Of], table: Table, where: str, **more: Any) -> Of:
    """Return an object of a dataclass whose fields a table has."""
    kinds = {name: kind for name, kind in _kinds(cls).items() if name not in more}
    values = typed_table(table, kinds, where)
    missing = [f.name for f in fields(cls) if f.name not in values | more and _is_needed(f)]  # type: ignore[arg-type]
    if missing:
        raise UserError(f"{where} has no {missing[0]}")
    return cls(**values, **more)


def _is_needed(of: Any) -> bool:
    from dataclasses import MISSING

    return of.default is MISSING and of.default_factory is MISSING
