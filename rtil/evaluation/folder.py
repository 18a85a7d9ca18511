"""An evaluation's folder: one process owns the whole of it, or every shard its own part.

A shard holds the folder's lock only while it enters, when settings are written or compared; from then on that of its
part. Whoever wants the whole folder takes its lock and those of all parts.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rtil.errors import RunError, UserError
from rtil.evaluation.shards import Shard
from rtil.files import writing
from rtil.runs import LOCK, SETTINGS, claim, own, read_settings

OPTIONS, IDENTITY, SOLVERS, PICTURES = "options", "identity", "solvers", "pictures"
"""Tables of settings.json, and the list of the pictures' ids."""
MACHINES = "machines"
"""Its list of the machines on which the evaluation was begun and gone on with."""
OF_A_PROCESS = ("out", "resume", "device", "shard", "devices", "checkpoints")
"""Options in which processes that share an evaluation may differ; checkpoints are compared by their weights."""
ENTER_SECONDS = 20


@contextmanager
def whole(folder: Path, resume: bool) -> Iterator[None]:
    """Own a folder and all its shards within the ``with`` block, and remove what killed processes left half-written.

    Raises:
        RunError: As :func:`rtil.runs.claim`, or a shard is at work.
    """
    parts = set[str]()
    with ExitStack() as held:

        def own_parts() -> None:
            with writing(folder):
                for part in sorted({path.name.removeprefix(LOCK) for path in folder.glob(f"{LOCK}-*")} - parts):
                    held.callback(own(folder, part).release)
                    parts.add(part)

        own_parts()  # before anything that shards may be writing is touched
        held.enter_context(claim(folder, resume))
        own_parts()  # of shards that have come meanwhile; from now on none can
        yield


@contextmanager
def shared(folder: Path, shard: Shard | None, enter: Callable[[], None]) -> Iterator[None]:
    """Own a shard's part of a folder, made when absent, within the ``with`` block.

    Args:
        folder: The run folder.
        shard: Which; None for no part, only to enter.
        enter: Writes the settings, or compares them; one process at a time does.

    Raises:
        RunError: Another process is the same shard, or owns the whole folder.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        door = own(folder, patience_seconds=ENTER_SECONDS)
    with ExitStack() as held:
        try:
            if shard is not None:
                with writing(folder):
                    held.callback(own(folder, f"-{shard.name}").release)
            enter()
        finally:
            door.release()
        yield


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Return the settings of an evaluation.

    Raises:
        UserError: The folder holds none, or they are damaged.
    """
    settings = read_settings(folder)
    if not isinstance(settings.get(OPTIONS), dict):
        raise UserError(f"{folder} holds no evaluation: give the folder of one")
    kinds = {IDENTITY: dict, SOLVERS: dict, PICTURES: list}
    wrong = [name for name, kind in kinds.items() if name in settings and not isinstance(settings[name], kind)]
    identity = settings.get(IDENTITY, {})
    if not wrong:
        wrong = [f"{IDENTITY}.{n}" for n in ("weights", PICTURES) if not isinstance(identity.get(n, {}), dict)]
    if not wrong:
        lists = {SOLVERS: (dict, settings.get(SOLVERS, {}).values()), PICTURES: (str, settings.get(PICTURES, []))}
        wrong = [name for name, (kind, found) in lists.items() if not all(isinstance(part, kind) for part in found)]
    if wrong:
        raise UserError(f"{folder / SETTINGS} is damaged ({wrong[0]} is of another type): restore it, or start anew")
    return settings


def check_same(folder: Path, there: Mapping[str, Any], other: Mapping[str, Any], where: str) -> None:
    """Check that two processes share one evaluation: the same list of jobs, cut in the same way.

    Args:
        folder: Where the first one is.
        there: Its settings.
        other: Those of the second one.
        where: Whose they are, for the message.

    Raises:
        RunError: They differ.
    """
    options, others = ({**settings.get(OPTIONS, {})} for settings in (there, other))
    names = [name for name in options.keys() | others.keys() if name not in OF_A_PROCESS]
    differing = sorted(name for name in names if options.get(name) != others.get(name))
    if differing:
        name = differing[0]
        raise RunError(
            f"{folder} holds an evaluation with {name} {options.get(name)}, {where} has {others.get(name)}: all shards "
            "need the same options"
        )
    for name, what in ((PICTURES, "pictures"), (IDENTITY, "weights or pictures"), (SOLVERS, "settings of methods")):
        if there.get(name) != other.get(name):
            raise RunError(f"{folder} holds an evaluation with other {what} than {where}: all shards need the same")
