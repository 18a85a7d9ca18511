"""The command line that makes an evaluation again, from its settings."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtil.cli.comparison import NOT_RESUMED, options_table
from rtil.cli.eval import EvalOptions
from rtil.cli.values import as_yaml
from rtil.evaluation.folder import OPTIONS
from rtil.machine import short

SHIPPED = Path("rtil/pretrained")


def command_of(settings: Mapping[str, Any], folder: Path) -> str:
    """Return ``rtil eval`` with every option that is not its default.

    Args:
        settings: Of the evaluation, from :func:`rtil.evaluation.folder.read_evaluation`.
        folder: Where it lies; the command names another one beside it.
    """
    usual = _flat(options_table(EvalOptions()))
    words = ["rtil", "eval", "--out", short(f"{folder}-again")]
    for name, value in _flat(settings[OPTIONS]).items():
        if name not in NOT_RESUMED and (name not in usual or value != usual[name]):
            words += [f"--{name}", *_words(name, value)]
    return " ".join(shlex.quote(word) for word in words)


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their names on a command line; those of a method as ``method.name``."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping) and name not in ("checkpoints", "variants"):
            found |= {f"{name}.{own}": _plain(part) for own, part in value.items()}
        else:
            found[name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _words(name: str, value: Any) -> list[str]:
    if name == "checkpoints" and isinstance(value, Mapping):
        return [f"{own}={_prior(path)}" for own, path in value.items()]
    return [as_yaml(value)]


def _prior(path: Any) -> str:
    """Return a checkpoint's path; the shipped ones by the name that holds everywhere."""
    found = Path(str(path))
    return f"shipped:{found.stem}" if found.parent.as_posix().endswith(SHIPPED.as_posix()) else short(found)
