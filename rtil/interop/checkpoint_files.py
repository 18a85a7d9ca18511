"""Other projects' files, told apart by their content and opened without running anything of them.

Zip and legacy files of torch.save, safetensors, and pickles. What they hold is nested differently in every project, so
it is returned flat: tensors and plain values by their dotted place (``g_ema.conv1.bias``, ``config.alpha``).
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rtil.errors import UserError
from rtil.interop.safe_pickle import Module, Settings, read_pickle
from rtil.tensor_files import read_tensors
from rtil.torch_files import ZIP, read_torch, reason_of

Fact = str | int | float | bool | None

HEAD_BYTES = 512
TORCH_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number with which files of torch.save began before version 1.6; storages within pickles do, too."""
LEGACY_BYTES = 16
PICKLE = b"\x80"
GIT_LFS = b"version https://git-lfs"
DEEPEST = 40
GAN_ZOO_CONFIG = "models.utils.config.BaseConfig"
MODULE_PARTS = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        tensors: By their dotted place.
        facts: Plain values, likewise.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Fact]

    def below(self, prefix: str) -> "Content":
        """Return what lies below a place, by the rest of its name."""
        tensors = {k.removeprefix(prefix): t for k, t in self.tensors.items() if k.startswith(prefix)}
        return Content(tensors, {k.removeprefix(prefix): f for k, f in self.facts.items() if k.startswith(prefix)})


def is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors do: the length of a JSON table, and its brace."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def read_checkpoint_file(path: Path) -> Content:
    """Open a file of another project.

    Raises:
        UserError: It is damaged, no such file, or holds anything but weights and plain values; nothing of it has run.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        tensors: dict[str, Tensor] = {}
        facts: dict[str, Fact] = {}
        for place, value in _flat(_read(path, head)):
            if isinstance(value, Tensor):
                tensors[place] = value
            else:
                facts[place] = value
        return Content(tensors, facts)
    except UserError as error:
        raise UserError(f"{path} is not a readable snapshot or checkpoint: {error}") from error
    except Exception as error:  # a damaged file can bring any
        raise UserError(f"{path} is not a readable snapshot or checkpoint: {reason_of(error)}") from error


def _read(path: Path, head: bytes) -> Any:
    if head.startswith(ZIP) or TORCH_LEGACY in head[:LEGACY_BYTES]:
        return read_torch(path, [argparse.Namespace, (Settings, GAN_ZOO_CONFIG)])
    if head.startswith(PICKLE):
        return read_pickle(path)
    if is_safetensors(path):
        return read_tensors(path)
    raise UserError(_what_else(head))


def _what_else(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty: get it again"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is a web page, saved in place of a download that failed: get it again"
    if head.startswith(GIT_LFS):
        return "it is a pointer of Git LFS: get the file itself (git lfs pull)"
    return f"it begins with {head[:8]!r}: valid are safetensors, files of torch.save, and NVIDIA's .pkl"


def _flat(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield tensors and plain values with their dotted places; lists are of optimisers, and left out."""
    if depth > DEEPEST:
        raise UserError("it is nested without end")
    if isinstance(value, Tensor | str | int | float | bool | None):
        yield place, value
        return
    if isinstance(value, Module):
        parts = [value.state.get(name) or {} for name in MODULE_PARTS]
        own = {name: part for name, part in value.state.items() if not name.startswith("_")}
        tables: list[Any] = [*parts, own, {"class_name": value.class_name}]
    else:
        tables = [vars(value) if isinstance(value, argparse.Namespace | Settings) else value]
    for table in tables:
        if isinstance(table, Mapping):
            for name, inner in table.items():
                yield from _flat(inner, f"{place}.{name}" if place else str(name), depth + 1)
