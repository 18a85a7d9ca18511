"""Seeded damage to files, and how a door takes it: refused in a line, accepted, or anything else, which has escaped.

A door is any function of a path that reads what lies there. Trials run in a forked child with limits of its own on
memory and time, so that a crash, a hang or a gigabyte is counted and named instead of ending the test run. Trial n of a
seed is always the same damage. ``RTIL_FUZZ=500 pytest tests/faults`` tries 500 at every door in place of a few.
"""

import faulthandler
import json
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rtil.errors import UserError

TRIES = int(os.environ.get("RTIL_FUZZ", "40"))
LONGEST_MESSAGE = 1000
HEAD = 2048
"""Half of the flips fall here, where formats keep their tables."""
NASTY = [b"null", b"[]", b"{}", b"-1", b"1e999", b"NaN", b"0", b'"x"', b"true", b"9" * 400, b"\xff\xfe", b"[" * 20_000]
NASTY += [
    b"1e-400",
    b"{" * 50,
    b'"\\ud800"',
    b"\x00",
    b"\x1b[31m",
    b": ",
    b"- ",
    b"&a [*a]",
    b"!!python/name:os.system",
]
TEXT_ENDINGS = {".json", ".jsonl", ".yaml", ".yml"}


@dataclass
class Counts:
    """What became of the trials.

    Attributes:
        refused: UserErrors of one line.
        accepted: Read as if nothing was wrong.
        escaped: Everything else, each with its trial and the damage.
        peak_mb: Most memory that the child took beyond what it started with.
        slowest: Seconds of the longest trial.
        reasons: The messages of refusals, and how often each was given; paths are left out.
    """

    refused: int = 0
    accepted: int = 0
    escaped: list[str] = field(default_factory=list)
    peak_mb: float = 0.0
    slowest: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def tried(self) -> int:
        """All trials."""
        return self.refused + self.accepted + len(self.escaped)

    def __str__(self) -> str:
        return (
            f"tried {self.tried}, refused {self.refused}, accepted {self.accepted}, escaped {len(self.escaped)}; "
            f"peak {self.peak_mb:.0f} MB, slowest {self.slowest:.2f} s"
        )


def damaged(content: bytes, rng: random.Random, is_text: bool = False) -> tuple[str, bytes]:
    """Return what is done to a file's content, in words, and the result.

    Args:
        content: A sound file.
        rng: Source of all choices.
        is_text: Whether words of text formats are also put in.
    """
    kinds: list[Callable[[bytearray, random.Random], str]] = [_flip, _flip, _replace, _truncate, _zero, _cut, _repeat]
    if is_text:
        kinds = [*kinds, _nasty, _nasty, _nasty, _nasty]
    data = bytearray(content)
    words = rng.choice(kinds)(data, rng)
    return words, bytes(data)


def fuzz(
    door: Callable[[Path], object],
    sound: Sequence[Path],
    folder: Path,
    tries: int = TRIES,
    seed: int = 0,
    memory_mb: int = 1500,
    seconds: float = 20.0,
    change: Callable[[bytes, random.Random], tuple[str, bytes]] | None = None,
) -> Counts:
    """Damage files and count how a door takes them.

    Args:
        door: Reads a file; UserError is a refusal, any other exception escapes.
        sound: Files that the door accepts; they are damaged in turn, and keep their names.
        folder: Where damaged files are put; it is the door's to write in.
        tries: Trials in all.
        seed: Of the damage.
        memory_mb: What a trial may allocate.
        seconds: What a trial may take.
        change: What is done to the content; None is :func:`damaged`.
    """
    contents = [(path.name, path.read_bytes()) for path in sound]
    counts, done = Counts(), 0
    while done < tries:
        done = _in_a_child(door, contents, folder, range(done, tries), seed, memory_mb, seconds, change, counts)
    return counts


def _in_a_child(
    door: Callable[[Path], object],
    contents: Sequence[tuple[str, bytes]],
    folder: Path,
    trials: range,
    seed: int,
    memory_mb: int,
    seconds: float,
    change: Callable[[bytes, random.Random], tuple[str, bytes]] | None,
    counts: Counts,
) -> int:
    """Run trials until they end or the child dies; returns the number of the next trial."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:  # pragma: no cover  measured from outside
        os.close(reader)
        code = 1
        try:
            _limit(memory_mb)
            with os.fdopen(writer, "w") as report:
                for number in trials:
                    _try(door, contents, folder, number, seed, seconds, change, report)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    running, words = trials.start, ""
    with os.fdopen(reader) as report:
        while True:
            if not select.select([report], [], [], seconds * 3)[0]:
                os.kill(child, signal.SIGKILL)  # deaf to its alarm; what it said before is still to be read
            line = report.readline()
            if not line:
                break
            said = json.loads(line)
            running = said["trial"]
            if "outcome" not in said:
                words = said["words"]
                continue
            _count(counts, said, f"trial {running}, {words}")
            running += 1
    status = os.waitpid(child, 0)[1]
    if running in trials:
        counts.escaped.append(f"trial {running}, {words}: the child ended by {os.waitstatus_to_exitcode(status)}")
        running += 1
    return running


def _count(counts: Counts, said: dict[str, Any], words: str) -> None:
    counts.peak_mb, counts.slowest = max(counts.peak_mb, said["mb"]), max(counts.slowest, said["seconds"])
    if said["outcome"] == "accepted":
        counts.accepted += 1
    elif said["outcome"] == "refused":
        counts.refused += 1
        counts.reasons[str(said["message"])] += 1
    else:
        counts.escaped.append(f"{words}: {said['message']}")


class _TooLongError(BaseException):
    """A trial took more than its time."""


def _limit(memory_mb: int) -> None:
    def too_long(number: int, frame: object) -> None:
        raise _TooLongError

    signal.signal(signal.SIGALRM, too_long)
    faulthandler.disable()
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    most = (_kilobytes("VmData") + memory_mb * 1024) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _try(
    door: Callable[[Path], object],
    contents: Sequence[tuple[str, bytes]],
    folder: Path,
    number: int,
    seed: int,
    seconds: float,
    change: Callable[[bytes, random.Random], tuple[str, bytes]] | None,
    report: TextIO,
) -> None:
    name, content = contents[number % len(contents)]
    rng = random.Random(f"{seed}/{number}")  # noqa: S311  to be drawn again
    words, bad = change(content, rng) if change else damaged(content, rng, Path(name).suffix in TEXT_ENDINGS)
    path = folder / name
    path.write_bytes(bad)
    print(json.dumps({"trial": number, "words": f"{name}: {words}"}), file=report, flush=True)
    before, start = _kilobytes("VmRSS"), time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    outcome, message = "escaped", ""
    try:
        door(path)
        outcome = "accepted"
    except UserError as error:
        message = " ".join(str(error).replace(str(folder), "").split())
        outcome = "refused" if len(message) <= LONGEST_MESSAGE else "escaped"
    except _TooLongError:
        message = f"over {seconds} s"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    spent = time.perf_counter() - start
    mb = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    said = {"trial": number, "outcome": outcome, "message": message, "mb": mb, "seconds": spent}
    print(json.dumps(said), file=report, flush=True)


def _kilobytes(what: str) -> int:
    """Return a line of /proc/self/status; the limit and the peak are counted in the same way."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next((int(line.split()[1]) for line in status if line.startswith(f"{what}:")), 0)


def _place(data: bytearray, rng: random.Random) -> int:
    most = min(len(data), HEAD) if rng.random() < 0.5 else len(data)
    return rng.randrange(most) if most else 0


def _flip(data: bytearray, rng: random.Random) -> str:
    places = [_place(data, rng) for _ in range(rng.choice([1, 1, 2, 8]))] if data else []
    for place in places:
        data[place] ^= 1 << rng.randrange(8)
    return f"bits flipped at {places}"


def _replace(data: bytearray, rng: random.Random) -> str:
    place, length = _place(data, rng), rng.choice([1, 2, 4, 8, 64])
    data[place : place + length] = rng.randbytes(length)
    return f"{length} bytes replaced at {place}"


def _truncate(data: bytearray, rng: random.Random) -> str:
    length = rng.choice([0, 1, _place(data, rng), rng.randrange(len(data) + 1), max(len(data) - 1, 0)])
    del data[length:]
    return f"cut to {length} bytes"


def _zero(data: bytearray, rng: random.Random) -> str:
    place, length = _place(data, rng), rng.choice([8, 512, 4096])
    length = min(length, len(data) - place)
    data[place : place + length] = bytes(length)
    return f"{length} zeros at {place}"


def _cut(data: bytearray, rng: random.Random) -> str:
    place, length = _place(data, rng), rng.choice([1, 16, 512])
    del data[place : place + length]
    return f"{length} bytes left out at {place}"


def _repeat(data: bytearray, rng: random.Random) -> str:
    place, length = _place(data, rng), rng.choice([1, 16, 512])
    data[place:place] = data[place : place + length]
    return f"{length} bytes twice at {place}"


def _nasty(data: bytearray, rng: random.Random) -> str:
    """Put a word in the place of one, or between two."""
    ends = [i for i, byte in enumerate(data) if byte in b' ,:[]{}"\n'] or [0]
    start, word = rng.choice(ends), rng.choice(NASTY)
    stop = next((end for end in ends if end > start), len(data)) if rng.random() < 0.7 else start + 1
    data[start + 1 : stop] = word
    return f"{word[:20]!r} in the place of {start + 1}:{stop}"
