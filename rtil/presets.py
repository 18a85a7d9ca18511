"""Presets by name: the files of ``configs/``, which lie beside the package in a checkout, and in it where installed."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rtil.errors import UserError

Kind = Literal["train", "eval", "study"]
PACKAGE = Path(__file__).resolve().parent
FOLDER = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"


def names(kind: Kind) -> Sequence[str]:
    """Return the names of a command's presets, sorted."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.yaml"))


def config_path(config: str, kind: Kind | None) -> Path:
    """Return the file that ``--config`` means: the preset of that name, else the path as it is.

    Args:
        config: Name of a preset, or path of a YAML file.
        kind: Whose presets; None for a command without.

    Raises:
        UserError: It is neither a preset nor a file, and does not look like a path.
    """
    if kind is None:
        return Path(config)
    valid = names(kind)
    if config in valid:
        return FOLDER / kind / f"{config}.yaml"
    path = Path(config)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 or path.is_file():
        return path
    near = " or ".join(f"'{name}'" for name in difflib.get_close_matches(config, valid))
    hint = f"; did you mean {near}?" if near else ""
    raise UserError(f"no preset '{config}' of rtil {kind} in {FOLDER / kind}{hint} (or give the path of a YAML file)")
