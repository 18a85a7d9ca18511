"""What happens to the processes that read pictures for a training, in one line: they are killed, or meet a bad picture.

torch raises a RuntimeError wherever the training is when such a process is gone, and puts the whole traceback of a
process into the message of the error that it met.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from rtil.errors import RunError, UserError, in_short

KILLED, MET = "DataLoader worker (pid", "in DataLoader worker process"
WITHOUT = "free memory, or prepare the pictures as a zip of the training's resolution, and add --resume"


@contextmanager
def worker_errors_in_one_line() -> Iterator[None]:
    """Turn the errors of processes that read, within the ``with`` block, into one line.

    Raises:
        RunError: One was killed, or met a picture that it could not read.
    """
    try:
        yield
    except UserError as error:
        if MET not in str(error):
            raise
        raise RunError(str(error).strip().splitlines()[-1].partition(": ")[2]) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError) and KILLED not in str(error):
            raise
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise it anew with each of them that ends
        said = in_short(error.__cause__ or error)  # of one that was killed while it handed a batch over: a connection's
        told = said if said.startswith("DataLoader") else f"DataLoader worker: {said}"
        raise RunError(f"a process that reads pictures was lost ({told}): {WITHOUT}") from error
