"""Clocks, and ways that are measured in turns.

Machines get slower and faster while one measures. So every way runs once in each repeat, in alternating order, and a
ratio is taken within each repeat before the median.
"""

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import torch

from benchmarks.record import Spread
from rtil.devices import wait_for

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


def in_turns(
    ways: Mapping[Key, Callable[[], Found]],
    repeats: int,
    tell: Callable[[str], None] | None = None,
    until: float = math.inf,
) -> dict[Key, list[Found]]:
    """Run every way once per repeat, in alternating order; return what each run returned, by way.

    Args:
        ways: What to run; warmed up by whoever calls.
        repeats: How often.
        tell: Called with a line of progress after each repeat.
        until: Time of ``time.perf_counter`` after which no other repeat begins; the first one is always run.
    """
    found: dict[Key, list[Found]] = {key: [] for key in ways}
    started = time.perf_counter()
    for repeat in range(repeats):
        if repeat and time.perf_counter() > until:
            break
        order = list(ways)
        for key in order if repeat % 2 == 0 else reversed(order):
            found[key].append(ways[key]())
        if tell is not None:
            tell(f"repeat {repeat + 1} of {repeats}, {time.perf_counter() - started:.0f} s")
    return found


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, the work that it gives to a GPU included."""
    wait_for(device)
    started = time.perf_counter()
    function()
    wait_for(device)
    return time.perf_counter() - started


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return ours / theirs of values that were measured in the same repeats."""
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])


class StepClock:
    """Seconds per step of every round of an inversion; a solver's callback.

    A round is timed from an early iterate, behind its first steps, to its last one, so that the work between rounds is
    left out and a GPU is waited for twice a round only.

    Args:
        steps: Of each round, all of the same batch.
        device: Where they run.
    """

    WARM_STEPS = 2

    def __init__(self, steps: Sequence[int], device: torch.device) -> None:
        self.steps, self.device = tuple(steps), device
        self.seconds: dict[int, float] = {}
        self._started = 0.0

    def __call__(self, round_number: int, step: int, x: torch.Tensor | None = None) -> None:
        """Look at the clock when an iterate begins or ends the timed part of its round."""
        steps = self.steps[round_number]
        first = min(self.WARM_STEPS, steps - 1)
        if step == first:
            wait_for(self.device)
            self._started = time.perf_counter()
        elif step == steps:
            wait_for(self.device)
            self.seconds[round_number] = (time.perf_counter() - self._started) / (steps - first)
