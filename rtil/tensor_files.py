"""Files of tensors that show damage, and are equal where their contents are: safetensors with a checksum.

The metadata's ``rtil_sha256`` is over the other metadata and all tensors. Files from elsewhere, or from before there
was one, have none and are read without. safetensors writes metadata in an order of chance; here it is sorted.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rtil.errors import UserError
from rtil.files import atomic_path
from rtil.snapshot_header import CHECKSUM


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file atomically.

    Args:
        path: The .safetensors file.
        tensors: On the CPU, contiguous.
        metadata: Texts by name.

    Raises:
        RunError: It cannot be written.
    """
    with atomic_path(path) as temporary:
        save_file(dict(tensors), temporary, {**metadata, CHECKSUM: checksum(tensors, metadata)})
        _sort_metadata(temporary)


def read_tensors(path: Path, needs_checksum: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a file.

    Args:
        path: The file.
        needs_checksum: Refuse a file without a checksum, which older ones and those of other programs have not.

    Raises:
        UserError: It is no such file, cannot be read, or does not fit its checksum; the message lacks the file's name.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"it is damaged, or no safetensors file ({error})") from error
    expected = metadata.pop(CHECKSUM, None)
    if (expected is not None or needs_checksum) and expected != checksum(tensors, metadata):
        raise UserError("it is damaged: its content does not fit its checksum")
    return tensors


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 over metadata and tensors, by name, type, shape and values, as hexadecimal digits."""
    found = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file into the order of its names; nothing else moves."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) == length:  # it always has: JSON leaves a writer no choice but in its escapes
            file.seek(8)
            file.write(text)
