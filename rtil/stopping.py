"""Ctrl-C, SIGTERM, a closed terminal: the first request raises in the main thread, a second one acts.

So ``finally`` blocks run. What is imported may turn an exception into another one, or swallow it, and unwinding may
take long: hence the second. Who starts a process with one of the signals ignored is obeyed: a shell does so with Ctrl-C
for jobs behind ``&``, nohup with a closed terminal.
"""

import os
import signal
import stat
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

HANGUP: int | None = getattr(signal, "SIGHUP", None)  # not on Windows
WORDS: Mapping[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"} | (
    {HANGUP: "hung up"} if HANGUP else {}
)
"""What is said at the end, by the signal; the exit code is 128 + its number."""
Handler = Callable[[int, types.FrameType | None], object]


class Terminated(BaseException):
    """SIGTERM, or a closed terminal, raised in the main thread."""


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
            Terminated: After SIGTERM, or when the terminal was closed.
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
    """Let a handler take these signals from now on, in the main thread, which alone may; return who had them before."""

    def heard(number: int, frame: types.FrameType | None) -> None:
        if number == HANGUP:
            _print_nowhere()
        handler(number, frame)

    before: dict[int, Any] = {}
    with suppress(ValueError):  # another thread: whoever owns the main one also owns the signals
        for number in WORDS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, heard)
    return before


def _print_nowhere() -> None:
    """Let what was printed on the terminal go nowhere, as every further line would be an error; files stay."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode):
            os.dup2(nowhere, stream)
    os.close(nowhere)


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Let a handler take these signals inside the ``with`` block; see :func:`handle`."""
    before = handle(handler)
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
