import time

import pytest
import torch

from rtil.evaluation.stopwatch import Stopwatch


def test_passages_are_added_up_and_what_lies_between_is_not() -> None:
    watch = Stopwatch(torch.device("cpu"))
    assert watch.seconds == 0
    for _ in range(2):
        with watch.running():
            time.sleep(0.02)
        time.sleep(0.2)
    assert 0.04 <= watch.seconds < 0.2


class _Event:
    """A mark in the queue of a GPU whose every piece of work takes 500 ms, and which does them when waited for."""

    asked: list[str]

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at: float | None = None

    def record(self, stream: str) -> None:
        self.at = 500.0 * len(self.asked)
        self.asked.append(f"mark in {stream}")

    def synchronize(self) -> None:
        self.asked.append("wait")

    def elapsed_time(self, end: "_Event") -> float:
        assert self.at is not None
        assert end.at is not None
        return end.at - self.at


def test_a_gpu_is_waited_for_only_when_seconds_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(_Event, "asked", asked, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    watch = Stopwatch(torch.device("cuda:1"))
    for _ in range(3):
        with watch.running():
            asked.append("work")
    assert asked == ["mark in stream of cuda:1", "work", "mark in stream of cuda:1"] * 3
    assert watch.seconds == 3 * 1.0
    assert asked[9:] == ["wait"] * 3
    with watch.running():
        pass
    assert watch.seconds == 3 * 1.0 + 0.5, "earlier passages count once"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_seconds_of_a_gpu() -> None:
    watch = Stopwatch(torch.device("cuda"))
    factor = torch.rand(4096, 4096, device="cuda")
    factor @ factor
    torch.cuda.synchronize()
    started = time.perf_counter()
    with watch.running():
        for _ in range(50):
            factor @ factor
    asked_after = time.perf_counter() - started
    torch.cuda.synchronize()
    took = time.perf_counter() - started
    assert asked_after < 0.5 * took
    assert watch.seconds == pytest.approx(took, rel=0.2)
