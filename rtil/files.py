"""Where files go and how they are written.

Atomic writing: a reader sees the old file or the new one, never a part, also after a kill or a full disk.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from safetensors import SafetensorError

from rtil.errors import RunError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what stops the writing of a file or folder within the block into one line that names it.

    Raises:
        RunError: A file is in the way, the disk is full, it may not be written, ...
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        told = re.search(r"os error (\d+)", str(error))  # safetensors' errors have no errno
        if (getattr(error, "errno", None) or int(told[1] if told else 0)) in DISK_FULL:
            folder = next(folder for folder in Path(path).absolute().parents if folder.is_dir())
            left = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB are left in {folder}"
            raise RunError(f"{path} cannot be written (the disk is full, {left}): make room there") from error
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "a file is in the way"
        raise RunError(f"{path} cannot be written ({reason}): mend that, or name another place") from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is synced and takes the place of ``path``.

    The file gets the permissions of any new file, whoever writes it: safetensors' would be its owner's alone.

    Raises:
        RunError: As :func:`writing`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            permissions = temporary.stat().st_mode & 0o777  # what the umask leaves
            yield temporary
            temporary.chmod(permissions)
            with temporary.open("r+b") as file:  # Windows syncs only what may be written
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def drop_leftovers(folder: Path) -> None:
    """Delete what killed processes had begun to write into a folder; only for a folder that nobody else writes to."""
    for path in folder.glob(".*.tmp-*"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``$RTIL_CACHE``, or the user's cache folder for this program."""
    return Path(os.environ.get("RTIL_CACHE") or platformdirs.user_cache_dir("rtil"))
