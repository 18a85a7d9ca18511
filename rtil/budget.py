"""How much memory this process may still take, before work that would take it.

The least of what counts: what the machine has free, the limits of the control groups around the process (containers,
batch systems; both versions), and the limit of ``ulimit -v``. The kernel kills who asks for more, without a word.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtil.errors import UserError

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
UNLIMITED = 2**60
"""Version 1 says a number like this where there is no limit."""
SHARE = 0.8
"""Of what is available, so much may be planned with: others use memory, too."""


def available_bytes() -> int | None:
    """Return how many bytes may still be allocated before something fails, or None where the system does not say."""
    found = [_free(PROC), *_left_in_groups(PROC, GROUPS), _left_to_process(PROC)]
    return min((number for number in found if number is not None), default=None)


def check_memory(needed: int, what: str, instead: str) -> None:
    """Tell the user, before any work, that it would need more memory than there is.

    Args:
        needed: Bytes, as estimated.
        what: Needs them: ``pictures of 200000 px``.
        instead: What would fit, or what else to do.

    Raises:
        UserError: It is more than :data:`SHARE` of what is available.
    """
    available = available_bytes()
    if available is not None and needed > SHARE * available:
        raise UserError(f"{what} would take about {in_gb(needed)} of memory but {in_gb(available)} are free: {instead}")


def in_gb(count: float) -> str:
    """Return bytes in GB of 10^9 bytes, for messages.

    Example:
        >>> in_gb(1.6e9), in_gb(4e12)
        ('1.6 GB', '4,000 GB')
    """
    return f"{count / 1e9:,.1f} GB" if count < 1e11 else f"{count / 1e9:,.0f} GB"


class Share:
    """Memory that threads share: who would take more than is left waits for the others.

    Args:
        total: Bytes. Who needs more than all of it has it alone.
    """

    def __init__(self, total: int) -> None:
        self.total, self.taken = total, 0
        self._changed = threading.Condition()

    @contextmanager
    def taking(self, needed: int) -> Iterator[None]:
        """Have so many bytes within the ``with`` block."""
        needed = min(needed, self.total)
        with self._changed:
            self._changed.wait_for(lambda: self.taken + needed <= self.total)
            self.taken += needed
        try:
            yield
        finally:
            with self._changed:
                self.taken -= needed
                self._changed.notify_all()


def _free(proc: Path) -> int | None:
    """Return what the machine has: free memory and what the system would give back."""
    for line in _lines(proc / "meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _left_in_groups(proc: Path, groups: Path) -> Iterator[int]:
    """Yield what is left to each control group of this process, from its own up to the root."""
    for line in _lines(proc / "self/cgroup"):
        _, controllers, inside = line.split(":", 2)
        if controllers == "":
            root, limit, usage, cached = groups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, usage = groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        folder = root / inside.strip("/")
        for place in [folder, *folder.parents][: len(Path(inside).parts)]:  # in a container they may not be there
            most, used = _number(place / limit), _number(place / usage)
            if most is not None and used is not None and most < UNLIMITED:
                words = dict(line.split() for line in _lines(place / "memory.stat"))
                yield max(0, most - used + int(words.get(cached, 0)))


def _left_to_process(proc: Path) -> int | None:
    """Return what ``ulimit -v`` leaves, or None without such a limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    lines = _lines(proc / "self/statm")
    if most == resource.RLIM_INFINITY or not lines:
        return None
    return max(0, most - int(lines[0].split()[0]) * os.sysconf("SC_PAGE_SIZE"))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else None
