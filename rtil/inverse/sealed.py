"""Files of tensors that say what they are and show damage: safetensors, in which nothing can run code.

Their metadata holds ``format`` (``rtil-KIND-NUMBER``), ``about`` (JSON) and ``sha256`` over ``about`` and the tensors.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rtil import __version__
from rtil.budget import check_memory
from rtil.errors import UserError, in_short
from rtil.files import atomic_path
from rtil.inverse.file_content import TYPES
from rtil.schema import json_table


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Attributes:
        name: In messages and in the format: ``result``.
        number: Version of the format.
        wanted: What a user should give: ``give the result.safetensors of a reconstruction``.
    """

    name: str
    number: int
    wanted: str

    @property
    def format(self) -> str:
        """What the metadata says."""
        return f"rtil-{self.name}-{self.number}"


def save_sealed(path: Path, kind: Kind, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file atomically.

    Args:
        path: The .safetensors file.
        kind: What it is.
        about: Everything but the tensors, as JSON values.
        tensors: On the CPU, contiguous.
    """
    text = json.dumps(about)
    metadata = {"format": kind.format, "about": text, "sha256": digest(text, tensors)}
    with atomic_path(path) as temporary:
        save_file(dict(tensors), temporary, metadata)


def load_sealed(path: Path, *kinds: Kind) -> tuple[Kind, dict[str, Any], dict[str, Tensor]]:
    """Open a file; returns its kind, what it says, and its tensors.

    Args:
        path: The file.
        kinds: What it may be.

    Raises:
        UserError: There is none, it is damaged, of another kind, or of a version that this program cannot read.
    """
    name, wanted = kinds[0].name, kinds[0].wanted
    if not os.path.isfile(path):  # False also where one may not look
        what = "is a folder" if os.path.isdir(path) else "is no file" if os.path.exists(path) else "does not exist"
        raise UserError(f"{name} {path} {what}: {wanted}")
    try:
        check_memory(2 * path.stat().st_size, f"{name} {path}", "reconstruct fewer pictures at a time")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            kind = _kind(path, metadata.get("format", ""), kinds)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except UserError:
        raise
    except Exception as error:  # of an unknown type of tensor AttributeError, of a strange shape RuntimeError, ...
        raise UserError(f"{path} is damaged, or no {name} ({in_short(error)}): get another copy of it") from error
    with content_of(path):
        missing = {"about", "sha256"} - metadata.keys()
        if missing:
            raise UserError(f"its metadata lacks {', '.join(sorted(missing))}")
        unknown = {f"{key} of {t.dtype}" for key, t in tensors.items() if t.dtype not in TYPES}
        if unknown:
            raise UserError(f"its tensors are of unknown types: {', '.join(sorted(unknown))}")
        if metadata["sha256"] != digest(metadata["about"], tensors):
            raise UserError("its content does not fit its checksum")
        return kind, json_table(metadata["about"], "its table 'about'"), tensors


@contextmanager
def content_of(path: Path) -> Iterator[None]:
    """Put a file's name before what is wrong with its content, within the ``with`` block that reads it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path} is damaged ({error}): get another copy of it") from error


def digest(about: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over the text and the tensors, by name, type and shape, as hexadecimal digits."""
    found = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def kept(t: Tensor) -> Tensor:
    """Return a tensor as files take it."""
    return t.detach().cpu().contiguous()


def _kind(path: Path, found: str, kinds: tuple[Kind, ...]) -> Kind:
    for kind in kinds:
        number = found.removeprefix(f"rtil-{kind.name}-")
        if number != found and number.isdecimal():
            if int(number) != kind.number:
                raise UserError(
                    f"{path} has format '{found}' but rtil {__version__} reads '{kind.format}': update rtil"
                )
            return kind
    raise UserError(f"{path} is no {kinds[0].name} (format '{found}'): {kinds[0].wanted}")
