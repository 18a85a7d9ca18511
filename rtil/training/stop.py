"""Stopping between two steps: Ctrl-C and SIGTERM let the step finish and a checkpoint be written first."""

import signal
import types
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """Whether somebody asked the process to stop; a second request acts at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, signal.Handlers | int | None] = {}

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def _receive(self, signal_number: int, frame: types.FrameType | None) -> None:
        if self:
            self._restore()
            signal.raise_signal(signal_number)
        self.signal_number = signal_number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take requests inside the ``with`` block; at its end, pass one on to whoever handled it before."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)  # type: ignore[assignment]
        try:
            yield
        finally:
            self._restore()
        if self.signal_number is not None:
            signal.raise_signal(self.signal_number)
