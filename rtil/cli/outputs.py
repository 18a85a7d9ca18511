"""Where commands write: whether that can be is told before the work, and two of them do not write into one folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rtil.errors import RunError, UserError
from rtil.files import writing
from rtil.runs import LOCK, OWNER, own


def check_out_folder(out: Path) -> None:
    """Tell the user, before any work, when a folder cannot be made or written.

    Raises:
        UserError: It is a file, lies behind one, or may not be written.
    """
    if out.is_symlink() and not os.path.exists(out):
        raise UserError(f"{out} is a link that leads nowhere: give another folder as --out")
    there = next((place for place in (out, *out.parents) if os.path.lexists(place)), Path())
    if not os.path.isdir(there):
        raise UserError(f"{out} cannot be written (a file is in the way, {there}): give another place as --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{out} cannot be written (you may not write into {there}): give another place as --out")


def check_out_file(out: Path) -> None:
    """Tell the user, before any work, when a file cannot be written.

    Raises:
        UserError: It is a folder or a device, or its folder cannot be made or written.
    """
    if os.path.lexists(out) and not os.path.isfile(out):
        what = "a folder" if os.path.isdir(out) else "no plain file"
        raise UserError(f"{out} is {what}: give the name of a file as --out")
    check_out_folder(out.absolute().parent)


@contextmanager
def owned_folder(out: Path, holding: str) -> Iterator[Path]:
    """Own a folder of results within the ``with`` block, made when absent, removed if it is left empty.

    Args:
        out: The folder.
        holding: Name of the file that a finished command leaves; there may be none.

    Raises:
        RunError: Another process writes there, it holds such a file already, or it cannot be made or written.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = own(out)
    try:
        if os.path.exists(out / holding):  # another process may have come and gone in between
            raise RunError(f"{out} already holds {holding}: give another folder as --out")
        yield out
    finally:
        for name in (OWNER, LOCK):
            with suppress(OSError):  # on Windows a lock that is held stays
                (out / name).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # it is not empty
            out.rmdir()
