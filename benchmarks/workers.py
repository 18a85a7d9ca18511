"""Objects that live in processes of their own and are called from here, one at a time.

Memory is then that of one way of computing, and its settings (``RTIL_OPS``) are its own; between its turns a process
sleeps, so ways are still measured in turns.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from rtil.errors import UserError


class Worker:
    """An object in a process of its own; close it, or use it in a ``with`` block.

    Args:
        make: Makes the object, in its process; a function of a module.
        environment: Variables of that process, beside ours.
        args: Of ``make``; can be pickled.
    """

    def __init__(self, make: Callable[..., object], environment: Mapping[str, str], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, args), daemon=True)
        with _environment(environment):
            self._process.start()
        there.close()
        self._ready = False

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the object and return what it returns.

        Raises:
            UserError: It did, or the making of the object.
            RuntimeError: Anything else was raised, or its process ended.
        """
        if not self._ready:
            self._answer()
            self._ready = True
        self._here.send((method, args))
        return self._answer()

    def _answer(self) -> Any:
        try:
            outcome, value = self._here.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"a measuring process ended with code {self._process.exitcode}, perhaps for lack of memory"
            ) from None
        if outcome == "mistake":
            raise UserError(value)
        if outcome == "error":
            raise RuntimeError(value)
        return value

    def close(self) -> None:
        """End the process."""
        self._here.close()
        self._process.terminate()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables while a process is started: some are read when it imports torch."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(pipe: Connection, make: Callable[..., object], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this, which then closes the pipe
    try:
        made = make(*args)
        pipe.send(("done", None))
        while True:
            method, given = pipe.recv()
            pipe.send(("done", getattr(made, method)(*given)))
    except EOFError:
        return
    except UserError as error:
        pipe.send(("mistake", str(error)))
    except Exception:
        pipe.send(("error", traceback.format_exc()))
