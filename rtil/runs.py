"""Run folders: numbered, owned by one process at a time, and self-describing.

A run is a folder such as ``runs/train/00003-stylegan2-rtil-synthetic-32`` with ``settings.json``, from which the newest
comparable pair of trainings is found again.
"""

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from rtil.errors import RunError, UserError
from rtil.files import drop_leftovers, write_text, writing
from rtil.locks import Timeout, acquire, locked
from rtil.schema import json_table, read_small_text
from rtil.snapshot_header import read_header

TRAIN_RUNS = Path("runs/train")
EVAL_RUNS = Path("runs/eval")
SETTINGS = "settings.json"
SNAPSHOTS = "snapshot-*.safetensors"
LOCK, OWNER = ".lock", ".owner"
"""Two files: a lock is emptied by whoever asks for it, and on Windows nobody else may read it."""
MOST_BYTES = 2**24
"""Of the settings of a run."""
AGREEING = ("arch", "data", "resolution", "kimg")


def new_run(parent: Path, description: str) -> Path:
    """Make the next numbered run folder and return it; two processes at once get two folders.

    Args:
        parent: Folder of runs, made when absent.
        description: What the run is, for instance ``stylegan2-rtil-synthetic-32``.

    Raises:
        RunError: The folder cannot be made.

    Example:
        >>> import tempfile
        >>> parent = Path(tempfile.mkdtemp())
        >>> [new_run(parent, "a").name, new_run(parent, "b").name]
        ['00000-a', '00001-b']
    """
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with locked(parent / LOCK):
            numbers = [int(match[1]) for path in parent.iterdir() if (match := re.match(r"(\d{5,})-", path.name))]
            run = parent / f"{max(numbers, default=-1) + 1:05d}-{description}"
            run.mkdir()
    return run


def holds_run(out: Path) -> bool:
    """Return whether a folder holds a run: its settings, or a snapshot."""
    return (out / SETTINGS).exists() or any(out.glob(SNAPSHOTS))


@contextmanager
def claim(out: Path, resume: bool = False) -> Iterator[Path]:
    """Own a run folder within the ``with`` block, made when absent; the end of the process also ends the claim.

    Args:
        out: The folder.
        resume: Go on with the run that it holds.

    Raises:
        RunError: As :func:`check_resume`; another process owns it; it cannot be made or written.
    """
    check_resume(out, resume)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = own(out)
    try:
        check_resume(out, resume)  # again: another process may have come and gone in between
        drop_leftovers(out)
        yield out
    finally:
        lock.release()


def own(out: Path, part: str = "", patience_seconds: float = 0) -> FileLock:
    """Return the lock of a folder, or of a part of what is in it, held.

    Args:
        out: The folder.
        part: Name of the part, behind the lock's.
        patience_seconds: How long to wait for another process.

    Raises:
        RunError: Another process holds it.
    """
    owner = out / f"{OWNER}{part}"
    try:
        lock = acquire(out / f"{LOCK}{part}", patience_seconds)
    except Timeout:
        who = owner.read_text(encoding="utf-8").strip() if owner.is_file() else "unknown"
        raise RunError(f"{out} is in use by process {who}: wait for it, or give another folder as --out") from None
    owner.write_text(f"{os.getpid()} on {platform.node()}\n", encoding="utf-8")
    return lock


def check_resume(out: Path, resume: bool) -> None:
    """Check that a folder can hold a new run, or that it holds one to go on with.

    Raises:
        RunError: It holds a run and ``resume`` is False, or none and it is True; it is a file.
    """
    with writing(out):
        held, is_file = holds_run(out), out.is_file()
    if is_file:
        raise RunError(f"{out} is a file: --out needs a folder")
    if resume and not held:
        raise RunError(f"{out} holds no run to resume: leave --resume away, or give the run's folder as --out")
    if not resume and held:
        raise RunError(f"{out} already holds a run: add --resume to go on with it, or give another folder as --out")


def write_settings(run: Path, settings: Mapping[str, Any]) -> None:
    """Write ``settings.json``, atomically."""
    write_text(run / SETTINGS, json.dumps(settings, indent=2) + "\n")


def read_settings(run: Path) -> dict[str, Any]:
    """Return what :func:`write_settings` wrote.

    Raises:
        UserError: It is absent or not readable.
    """
    path = run / SETTINGS
    try:
        return json_table(read_small_text(path, MOST_BYTES, "give the folder of a run"), "it")
    except FileNotFoundError as error:
        raise UserError(f"{run} holds no {SETTINGS}: give the folder of a run") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): mend that, or delete it") from error
    except UserError as error:
        raise UserError(f"{path} cannot be read ({error}): mend or delete it") from error


def newest_snapshot(folder: Path) -> Path:
    """Return the snapshot of a run folder that has seen most images.

    Raises:
        UserError: If the folder holds none.
    """
    found = sorted(folder.glob(SNAPSHOTS))
    if not found:
        raise UserError(f"no snapshot in {folder} ({SNAPSHOTS}): train first, or give a .safetensors file")
    return found[-1]


@dataclass(frozen=True)
class RunInfo:
    """A training that can be used.

    Attributes:
        path: The run folder.
        snapshot: Its newest snapshot.
        info: What that snapshot says of itself: arch, rtil, data, resolution, kimg, seed, ...
    """

    path: Path
    snapshot: Path
    info: dict[str, Any]

    @property
    def is_rtil(self) -> bool:
        """Whether it was trained with RTIL."""
        return bool(self.info.get("rtil"))

    @property
    def agreement(self) -> tuple[Any, ...]:
        """What two runs must share to be compared."""
        return tuple(self.info.get(name) for name in AGREEING)


def train_runs(parent: Path = TRAIN_RUNS) -> list[RunInfo]:
    """Return the trainings below a folder that have a snapshot, oldest first by the time of that snapshot."""
    found = []
    for run in sorted(parent.iterdir()) if parent.is_dir() else []:
        if run.is_dir() and any(run.glob(SNAPSHOTS)):
            snapshot = newest_snapshot(run)
            found.append(RunInfo(run, snapshot, _info(snapshot)))
    return sorted(found, key=lambda run: run.snapshot.stat().st_mtime_ns)


def newest_pair(parent: Path = TRAIN_RUNS) -> dict[str, RunInfo]:
    """Return the newest vanilla and RTIL trainings that agree in architecture, data, resolution and kimg.

    Returns:
        {"vanilla": ..., "rtil": ...}; one of them, the newest training of all, where no two agree.

    Raises:
        UserError: There is no training.
    """
    runs = train_runs(parent)[::-1]
    if not runs:
        raise UserError(f"no trained run in {parent}: train first (python train.py)")
    for run in runs:
        partner = next((r for r in runs if r.is_rtil != run.is_rtil and r.agreement == run.agreement), None)
        if partner is not None:
            vanilla, rtil = (partner, run) if run.is_rtil else (run, partner)
            return {"vanilla": vanilla, "rtil": rtil}
    return {"rtil" if runs[0].is_rtil else "vanilla": runs[0]}


def _info(snapshot: Path) -> dict[str, Any]:
    header = read_header(snapshot)
    return {} if header is None else header.info
