"""Files of torch.save, opened without running anything of them and only where their checksums hold.

They are zip archives whose members are stored as they are, each with a CRC-32, which torch writes and never looks at:
a flipped bit would become a weight. Other members than stored ones could be a thousand times their size in the file.
"""

import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rtil.errors import UserError

ZIP = b"PK\x03\x04"


def read_torch(path: Path, allowed: Sequence[Any] = ()) -> Any:
    """Return what a file of torch.save holds: tensors on the CPU, containers and plain values.

    Args:
        path: A zip archive, or a file of torch before version 1.6.
        allowed: Classes that it may name besides, see ``torch.serialization.safe_globals``.

    Raises:
        UserError: It is damaged, or names anything else; nothing of it has run. The message lacks the file's name.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(ZIP)) == ZIP
        if is_zip:
            _check_members(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except UserError:
        raise
    except Exception as error:  # a damaged file can bring any
        raise UserError(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Return in a few words what went wrong while a file was opened."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and named:
        return f"it names {named[1]}, which is no part of weights; nothing of it was run"
    text = (str(error).splitlines() or [""])[0]
    return f"it is damaged or cut short ({text[:200] or type(error).__name__})"


def _check_members(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise UserError("its parts are larger than itself")
        packed = [member.filename for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise UserError(f"its part {packed[0]} is compressed, which torch.save never does")
        if bad := archive.testzip():
            raise UserError(f"it is damaged: its part {bad} does not fit its checksum")
