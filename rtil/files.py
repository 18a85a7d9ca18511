"""Where files go and how they are written.

Atomic writing: a reader sees the old file or the new one, never a part, also after a kill or a full disk. What a killed
process leaves of the file that it was writing, under a name of its own, is deleted by the next one that writes that
file, or that owns the folder.
"""

import errno
import glob
import os
import platform
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from safetensors import SafetensorError

from rtil.errors import RunError

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows knows no quota
ROOM_BYTES = 65536
"""Fewer bytes left are a full disk to whoever cannot write and does not say why."""
HOST = f"{zlib.crc32(platform.node().encode()):08x}"
LEFTOVERS = (".*.tmp-*", ".tmp??????")
"""Parts of files: ours, and safetensors' own."""


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what stops the writing of a file or folder within the block into one line that names it.

    Raises:
        RunError: A file is in the way, the disk is full or may not be written, ...; it says what to do.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        number = _error_number(error, Path(path))
        if number is None and not isinstance(error, OSError | SafetensorError):
            raise
        reason = getattr(error, "strerror", None) or error if number is None else os.strerror(number)
        if number in (errno.EEXIST, errno.ENOTDIR):
            reason = "a file is in the way"
        raise RunError(f"{path} cannot be written ({reason}): {_mend(number, Path(path))}") from error


def _error_number(error: BaseException, path: Path) -> int | None:
    """Return why the system did not write, also where a library says so in other words; None if it is not known."""
    cause: BaseException | None = error
    while cause is not None:  # torch raises a RuntimeError while it handles the system's
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        cause = cause.__context__
    if match := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        return int(match[1])
    is_full = isinstance(error, OSError) and shutil.disk_usage(_existing(path)).free < ROOM_BYTES  # numpy
    return errno.ENOSPC if is_full else None


def _mend(number: int | None, path: Path) -> str:
    """Return what to do about it."""
    folder = _existing(path)
    disk = next(place for place in [folder, *folder.parents] if os.path.ismount(place) or place == place.parent)
    if number in FULL:
        left = shutil.disk_usage(folder).free / 1e6
        return (
            f"{left:.1f} MB are left on the disk of {disk}; delete what is no longer needed there, such as old runs, "
            "or name another place"
        )
    if number == errno.EROFS:
        return f"the disk of {disk} is mounted for reading only; mount it for writing, or name another place"
    return "mend that, or name another place"


def _existing(path: Path) -> Path:
    """Return the folder of a path that will be made, or the first above that is there."""
    return next(folder for folder in path.absolute().parents if os.path.isdir(folder))


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is synced and takes the place of ``path``.

    The file gets the permissions of any new file, whoever writes it: safetensors' would be its owner's alone.

    Raises:
        RunError: As :func:`writing`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{HOST}-{os.getpid()}{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(f".{glob.escape(path.name)}.tmp-{HOST}-*"):
                if not _is_running(int(left.name.removeprefix(f".{path.name}.tmp-{HOST}-").partition(".")[0])):
                    left.unlink(missing_ok=True)
            temporary.touch()
            permissions = temporary.stat().st_mode & 0o777  # what the umask leaves
            yield temporary
            temporary.chmod(permissions)
            with temporary.open("r+b") as file:  # Windows syncs only what may be written
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # there, asking ends the process that is asked for
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make sure that a new name in a folder outlives a power cut, where folders can be synced."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def drop_leftovers(folder: Path) -> None:
    """Delete parts of files that killed processes left in a folder and those below it; nobody else may write there."""
    for pattern in LEFTOVERS:
        for path in folder.rglob(pattern):
            with suppress(OSError):
                path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``$RTIL_CACHE``, or the user's cache folder for this program."""
    return Path(os.environ.get("RTIL_CACHE") or platformdirs.user_cache_dir("rtil"))
