"""Stopping between two steps: Ctrl-C and SIGTERM let the step finish and a checkpoint be written first."""

import signal
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rtil.stopping import handled, leave


class StopNow(BaseException):
    """A request while nothing is under way that must be finished."""


class StopRequest:
    """Whether somebody asked the training to stop; a second request ends the process at once.

    Attributes:
        number: The signal; None until there is one.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._finishing_steps = False

    def __bool__(self) -> bool:
        return self.number is not None

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        if self:
            leave(number)
        self.number = number
        if not self._finishing_steps:
            raise StopNow

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take requests inside the ``with`` block; at its end, pass one on to whoever handled it before."""
        with handled(self._receive), suppress(StopNow):
            yield
        if self.number is not None:
            signal.raise_signal(self.number)

    def finish_steps(self) -> None:
        """Let every step finish from now on; a request before the first one ends the block that listens."""
        self._finishing_steps = True

    @contextmanager
    def leaving_out(self) -> Iterator[None]:
        """Between two steps, let a request end the ``with`` block: what takes long there and can be left out."""
        self._finishing_steps = False
        try:
            with suppress(StopNow):
                yield
        finally:
            self._finishing_steps = True
