"""How a program of this package starts and ends, whatever its module does; imports nothing heavy before it listens."""

import errno
import os
import platform
import select
import sys
from importlib import import_module
from typing import NoReturn, TextIO

from rtil.stopping import handle, leave

CLOSED_PIPE = 128 + 13
LAUNCHED = "RTIL_LAUNCHED"
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(2**26)}


def launch(module: str) -> NoReturn:
    """Run ``module.main()`` and exit with its code, first starting the process anew with other malloc settings.

    glibc hands every big block that is freed back to the kernel, and a network frees hundreds of them in each step:
    the page faults when they are allocated again take a third of the time of small models on a CPU. glibc reads these
    settings once, when a process starts, hence the restart; it happens before anything heavy is imported. Variables
    that the user has set are kept.

    Where ``main`` does not listen itself, while it is imported or at the end, Ctrl-C ends the process at once.
    """
    if platform.libc_ver()[0] == "glibc" and LAUNCHED not in os.environ:
        environment = {**MALLOC, **os.environ, LAUNCHED: "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
    handle(leave)
    try:
        code: int = import_module(module).main()
        sys.stdout.flush()
    except OSError as error:
        closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed_pipe(stream)]
        if error.errno not in (errno.EPIPE, errno.EINVAL) or not closed:  # the second on Windows
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in closed:  # Python flushes them once more at its end
            os.dup2(nowhere, stream.fileno())
        code = CLOSED_PIPE
    sys.exit(code)


def _is_closed_pipe(stream: TextIO) -> bool:
    """Return whether nobody reads a stream."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # errors are always told
        return bool(poll.poll(0))
    try:
        stream.flush()  # Windows; what could not be written is still in the buffer
    except OSError:
        return True
    return False
