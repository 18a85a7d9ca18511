"""The door of every file that users give: its bytes, if it is a file at all and not larger than can be right.

What is no plain file is refused without waiting for it: opening a named pipe would wait for whoever writes to it.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

from rtil.errors import RunError

MOST_BYTES = 2**30
"""Of one picture or settings file: 1 GiB, more than the largest picture that is read takes without compression."""
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
REASONS = {
    errno.ELOOP: "it is a link that leads back to itself",
    errno.ENXIO: "it is a socket or device, not a file",
}


@contextmanager
def opened(path: str | os.PathLike[str], what: str) -> Iterator[BufferedReader]:
    """Open a plain file for reading, within the ``with`` block.

    Args:
        path: The file.
        what: What messages call it: ``image``.

    Raises:
        RunError: There is none, it is something else, or it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise unreadable(path, what, error) from error
    kind = KINDS.get(stat.S_IFMT(os.fstat(descriptor).st_mode))
    if kind is not None:
        os.close(descriptor)
        raise RunError(f"{what} {str(path)!r} is {kind}: give a file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_file(path: str | os.PathLike[str], what: str, most: int = MOST_BYTES) -> bytes:
    """Return the content of a plain file.

    Args:
        path: The file.
        what: What messages call it.
        most: Largest size in bytes that is read.

    Raises:
        RunError: As :func:`opened`, or it is larger.
    """
    with opened(path, what) as file:
        try:
            is_small = os.fstat(file.fileno()).st_size <= most
            content = file.read(most + 1) if is_small else b""  # files of /proc say 0
        except OSError as error:
            raise unreadable(path, what, error) from error
    if not is_small or len(content) > most:
        raise RunError(f"{what} {str(path)!r} has more than {most:,} bytes: give a smaller one")
    return content


def unreadable(path: str | os.PathLike[str], what: str, error: Exception) -> RunError:
    """Return the error for a file that cannot be opened or read, in plain words where there are some."""
    reason = REASONS.get(getattr(error, "errno", None) or 0) or getattr(error, "strerror", None) or error
    return RunError(f"{what} {str(path)!r} cannot be read: {reason}")
