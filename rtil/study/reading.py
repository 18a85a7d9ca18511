"""A study's file, read and checked.

Two tables of the file, ``quick`` and ``paper``, are its sizes: what they hold goes over what stands beside them, table
by table, so that an exhibit is told once. What a command gives goes over that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from rtil.cli.values import read_yaml
from rtil.errors import UserError, unknown
from rtil.presets import config_path
from rtil.schema import shown, typed_table
from rtil.study.specification import SIZES, Checkpoint, FigureSpec, Given, Range, Study, Table, Tune

OF_THE_STUDY = ("checkpoints", "seed", "out", "resume", "shard", "devices", "device")
"""Options of an evaluation that are not for its table."""
OF_THE_COMMAND = ("name", "source", "size", "given")
"""Fields of a study that its file does not have."""


def read_study(
    name: str,
    size: str | None = None,
    given: Given = Given(),  # noqa: B008  frozen
) -> Study:
    """Read a study.

    Args:
        name: A preset, or the path of a YAML file.
        size: ``quick`` or ``paper``; None is the first that the file has.
        given: What the command gives in place of what the file says.

    Raises:
        UserError: The file is not a study, or something in it is not valid; it says where.
    """
    path = config_path(name, "study")
    table, chosen = _of_size(dict(read_yaml(path)), size, path)
    where = str(path)
    kinds = get_type_hints(Study)
    simple = {n: kinds[n] for n in ("title", "exhibit", "note", "seeds", "training_seeds", "ratios")}
    keys = [f.name for f in fields(Study) if f.name not in OF_THE_COMMAND]
    for key in table:
        if key not in keys:
            raise unknown(f"key in {where}", key, keys)
    values = typed_table({key: table[key] for key in simple if key in table}, simple, where)
    if "title" not in values:
        raise UserError(f"{where} has no title: say in a line what the study is")
    found = _table(table.get("checkpoints", {}), f"checkpoints in {where}")
    priors = {key: _checkpoint(value, f"checkpoints: {key} in {where}") for key, value in found.items()}
    for key in given.checkpoints:
        if key not in priors:
            raise unknown(f"checkpoint of study {path.stem}", key, priors)
    priors |= {key: Checkpoint(value) for key, value in given.checkpoints.items()}
    evaluations = _tables(table.get("evaluations", {}), f"evaluations in {where}")
    for key, evaluation in evaluations.items():
        wrong = [option for option in OF_THE_STUDY if option in evaluation]
        if wrong:
            raise UserError(f"evaluations: {key} in {where} has {wrong[0]}, which is the study's own: leave it away")
    tune = None if table.get("tune") is None else _tune(table["tune"], given.trials, f"tune in {where}")
    if tune is None and given.trials is not None:
        raise UserError(f"study {path.stem} tunes nothing: leave trials away, or add a table tune to {path}")
    drawn = _tables(table.get("figures", {}), f"figures in {where}")
    figures = {key: _read(FigureSpec, value, f"figures: {key} in {where}") for key, value in drawn.items()}
    changed = {key: _changed(evaluation, given.options) for key, evaluation in evaluations.items()}
    made: dict[str, Any] = {"checkpoints": priors, "evaluations": changed, "tune": tune, "figures": figures}
    study = Study(path.stem, name, chosen, given=given, **made, **values)
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


def _tune(value: Any, trials: int | None, where: str) -> Tune:
    table = _table(value, where) | ({} if trials is None else {"trials": trials})
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
    return of.default is MISSING and of.default_factory is MISSING
