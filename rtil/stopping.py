"""Ctrl-C and SIGTERM: the first request raises in the main thread, so that ``finally`` blocks run; a second one acts.

What is imported may turn an exception into another one, or swallow it, and unwinding may take long: hence the second.
Who starts a process with one of the signals ignored, as a shell does with Ctrl-C for jobs behind ``&``, is obeyed.
"""

import os
import signal
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

WORDS: Mapping[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""What is said at the end, by the signal; the exit code is 128 + its number."""
Handler = Callable[[int, types.FrameType | None], object]


class Terminated(BaseException):
    """SIGTERM, raised in the main thread."""


class Request:
    """The first request to stop.

    Attributes:
        number: The signal; None until there is one.
    """

    number: int | None = None

    def receive(self, number: int, frame: types.FrameType | None) -> None:
        """Raise; the second time, end the process.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
            Terminated: After SIGTERM.
        """
        if self.number is not None:
            leave(number)
        self.number = number
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def leave(number: int, frame: types.FrameType | None = None) -> NoReturn:
    """End the process at once with one line; files that are being written stay as they were."""
    os.write(2, f"{WORDS[number]}\n".encode())
    os._exit(128 + number)


def handle(handler: Handler) -> dict[int, Any]:
    """Let a handler take both signals from now on, in the main thread, which alone may; return who took them before."""
    before: dict[int, Any] = {}
    with suppress(ValueError):  # another thread: whoever owns the main one also owns the signals
        for number in WORDS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    return before


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Let a handler take both signals inside the ``with`` block; see :func:`handle`."""
    before = handle(handler)
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
