"""The seconds of a short call: many calls a sample, on a GPU replayed from a CUDA graph.

Python takes tens of microseconds to ask a GPU for an operation that may take it three. So calls are captured once and
the graph is replayed: that is the GPU's own time. What a call from Python takes is measured beside it.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch

from benchmarks.timing import seconds_of
from rtil.devices import wait_for

MOST_CALLS = 10_000
MOST_CAPTURED = 20


class Sampler:
    """Times calls, as many at a time as fill a sample.

    Args:
        call: What is called.
        sample_s: Seconds of a sample.
        device: Is waited for before and behind a sample.
        times: How often a call does what is timed.
    """

    def __init__(self, call: Callable[[], object], sample_s: float, device: torch.device, times: int = 1) -> None:
        self.call, self.device, self.times, self.calls = call, device, times, 1
        self()  # warms up
        self.calls = max(1, min(MOST_CALLS, math.ceil(sample_s / max(self() * times, 1e-9))))

    def __call__(self) -> float:
        """Return the seconds of what is timed."""
        return seconds_of(self._repeat, self.device) / (self.calls * self.times)

    def _repeat(self) -> None:
        for _ in range(self.calls):
            self.call()


class Timed(NamedTuple):
    """How a call is timed.

    Attributes:
        sampler: Of the call, or of a CUDA graph of it.
        eager_s: Seconds of the call from Python where ``sampler`` replays a graph, else None.
        not_captured: Why there is no graph on a GPU, in one line, else None.
    """

    sampler: Sampler
    eager_s: float | None = None
    not_captured: str | None = None


class Timing:
    """How calls are timed: on a GPU by a graph if they can be captured.

    Args:
        sample_s: Seconds of a sample.
        device: Where the calls run.

    Attributes:
        broken: Why no graph is tried any more: after a capture that failed torch's allocator may wait for its end for
            ever.
    """

    def __init__(self, sample_s: float, device: torch.device) -> None:
        self.sample_s, self.device = sample_s, device
        self.broken: str | None = None

    def __call__(self, call: Callable[[], object]) -> Timed:
        """Return how a call is timed.

        Args:
            call: On a GPU all that it uses belongs to the current stream, which is not the default one.
        """
        calls = Sampler(call, self.sample_s, self.device)
        if self.device.type != "cuda":
            return Timed(calls)
        if self.broken is not None:
            return Timed(calls, not_captured=f"not tried after: {self.broken}")
        times = min(MOST_CAPTURED, calls.calls)
        try:
            graph = captured(call, times, self.device)
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError):
                self.broken = first_line(error)
            return Timed(calls, not_captured=first_line(error))
        return Timed(Sampler(graph.replay, self.sample_s, self.device, times), eager_s=calls())


def captured(call: Callable[[], object], times: int, device: torch.device) -> torch.cuda.CUDAGraph:
    """Return a CUDA graph of some calls on the current stream; they have been warmed up.

    Raises:
        RuntimeError: They wait for the GPU, or do something else that no graph can hold.
    """
    graph = torch.cuda.CUDAGraph()
    wait_for(device)
    torch.cuda.empty_cache()  # the memory of graphs that are gone, which none can be given while one is captured
    graph.capture_begin()
    try:
        for _ in range(times):
            call()
    except RuntimeError:
        with suppress(RuntimeError):
            graph.capture_end()  # fails, too, and would tell of that only
        raise
    graph.capture_end()
    return graph


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).partition("\n")[0]
