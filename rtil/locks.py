"""Locks between processes: an flock, which ends with its holder, however that ends; no stale file can hold one.

Some network file systems have none. Then a notice says so, and the work goes on without.
"""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rtil.errors import Notice

__all__ = ["Timeout", "acquire", "locked"]

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def acquire(path: Path, timeout: float = 0) -> FileLock:
    """Return the lock of a file, held; release it, or end.

    Args:
        path: Made when absent, and never deleted.
        timeout: Seconds to wait for another process; below 0 without end.

    Raises:
        Timeout: Another process has held it all the time.
        OSError: The file cannot be made.
    """
    lock = FileLock(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*not support", UserWarning)  # a file in its place outlives a kill
            lock.acquire(timeout=timeout)
    except (UserWarning, NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        what = f"the disk of {path.parent} has no locks: see that no other process writes there"
        warnings.warn(what, Notice, stacklevel=2)
    return lock


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold the lock of a file inside the ``with`` block; see :func:`acquire`."""
    lock = acquire(path, timeout)
    try:
        yield
    finally:
        lock.release()
