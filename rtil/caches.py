"""What several processes would make at the same time is made by one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtil.locks import acquire

PATIENCE_SECONDS = 60


@contextmanager
def made_once(path: Path) -> Iterator[None]:
    """Let one process at a time look for what is cached and make it; others wait, and then find it made.

    Where there can be no lock, or another process takes longer than a minute, each makes its own.

    Args:
        path: What is made; the lock lies beside it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = acquire(path.with_name(f".{path.name}.lock"), PATIENCE_SECONDS)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()
