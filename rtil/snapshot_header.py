"""What a snapshot says of itself, read without its weights and without torch, and checked before anything is built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rtil.errors import UserError, unknown
from rtil.schema import json_table, typed_table

FORMAT = "rtil-snapshot-1"
FAMILY = "rtil-snapshot-"
KEYS = ("format", "arch", "config", "info")
CHECKSUM = "rtil_sha256"
"""Over the other metadata and all weights; absent in snapshots of older versions."""
INFO: dict[str, Any] = {
    "arch": str,
    "rtil": bool,
    "branches": str,
    "data": str,
    "dataset": str,
    "resolution": int,
    "kimg": float,
    "kimg_total": float,
    "seed": int,
    "sigma": float,
    "codes": list[int],
    "mixture_side": int | None,
    "branch_weights": list[float] | str,
    "layout": str,
    "file": str,
    "network": str,
    "w_mean": str,
    "licence": str,
    "source": str,
    "sha256": str,
}
"""What is read from ``info``; it may hold more."""


@dataclass(frozen=True)
class Header:
    """What a snapshot says of itself.

    Attributes:
        arch: Name of the generator's architecture, which need not be known.
        config: Its constructor's arguments, unchecked.
        info: How it was trained.
        shapes: Of the tensors in the file, by name.
    """

    arch: str
    config: dict[str, Any]
    info: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def read_header(path: Path) -> Header | None:
    """Return what a safetensors file says of itself as a snapshot; None where it is another project's.

    Raises:
        UserError: It cannot be read, is of another version, or says something that no snapshot says.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable snapshot or checkpoint ({error}): get it again") from error
    found = metadata.get("format", "")
    if not found.startswith(FAMILY):
        return None
    if found != FORMAT:
        raise UserError(f"{path} has format '{found}', this version reads '{FORMAT}': update rtil")
    try:
        return _header(metadata, shapes)
    except UserError as error:
        raise UserError(f"{path} is no sound snapshot: {error}: get it again") from error


def _header(metadata: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> Header:
    for name in metadata:
        if name not in (*KEYS, CHECKSUM):
            raise unknown("key in its metadata", name, (*KEYS, CHECKSUM))
    if missing := [name for name in KEYS if name not in metadata]:
        raise UserError(f"its metadata lacks {', '.join(missing)}")
    info = json_table(metadata["info"], "its info")
    typed_table(info, INFO, "its info", others=True)
    return Header(metadata["arch"], json_table(metadata["config"], "its config"), info, shapes)
