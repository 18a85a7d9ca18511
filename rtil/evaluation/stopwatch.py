"""Time spent in passages of a program whose work a GPU does later."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rtil.devices import wait_for

MS_PER_SECOND = 1000


class Stopwatch:
    """Adds up the seconds of passages; a GPU is waited for only when they are asked for.

    On a GPU they are the times between two marks each in its queue of work; Apple's are waited for in every passage.

    Args:
        device: Which does the work.

    Example:
        >>> watch = Stopwatch(torch.device("cpu"))
        >>> with watch.running():
        ...     time.sleep(0.01)
        >>> 0.01 <= watch.seconds < 1
        True
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._seconds = 0.0
        self._marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of a passage."""
        if self.device.type != "cuda":
            wait_for(self.device)
            started = time.perf_counter()
            yield
            wait_for(self.device)
            self._seconds += time.perf_counter() - started
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        queue = torch.cuda.current_stream(self.device)
        start.record(queue)
        yield
        end.record(queue)
        self._marks.append((start, end))

    @property
    def seconds(self) -> float:
        """The seconds of all passages so far."""
        for start, end in self._marks:
            end.synchronize()
            self._seconds += start.elapsed_time(end) / MS_PER_SECOND
        self._marks.clear()
        return self._seconds
