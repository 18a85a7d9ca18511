"""Shards: how several processes, on one machine or many, share one evaluation without talking to each other.

The flat list of jobs is cut into parts, batches of one job's pictures, and these are dealt out like cards: the parts of
each method in turn. Who gets what depends on the list alone, not on who was faster, so a shard that was killed is
simply run again; and a batch is the same whatever the number of shards, so are its numbers. Each shard appends to a
file of its own, under a lock of its own, in a folder that they share or each in another one;
:mod:`rtil.evaluation.merging` joins them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from rtil.errors import UserError
from rtil.evaluation.candidates import LINEAR

FILES = "rows*.jsonl"
MOST = 100_000


@dataclass(frozen=True)
class Shard:
    """One of the processes that share an evaluation.

    Attributes:
        number: Which one, from 1.
        of: How many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard of ``i/n``.

        Raises:
            UserError: It is not one of 1/n to n/n.

        Example:
            >>> Shard.parse("2/3")
            Shard(number=2, of=3)
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of <= MOST:
            raise UserError(f"shard is '{text}': valid is i/n, 1/n to n/n (of array jobs, sbatch --array=1-n)")
        return cls(number, of)

    @classmethod
    def of_file(cls, path: Path) -> "Shard | None":
        """Return the shard whose rows a file holds; None for those of a process that is no shard."""
        found = re.fullmatch(r"rows-(\d+)-of-(\d+)\.jsonl", path.name, re.ASCII)
        return cls(*map(int, found.groups())) if found else None

    def __str__(self) -> str:
        """Return ``i/n``."""
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """For names of files."""
        return f"{self.number}-of-{self.of}"

    @property
    def file(self) -> str:
        """Name of the file that holds its rows."""
        return f"rows-{self.name}.jsonl"

    def part(self, number: int, of: int) -> "Shard":
        """Return what one of several processes has of this shard: all of them together have the whole of it."""
        return Shard((self.number - 1) * of + number, self.of * of)


class Named(Protocol):
    """What has a method."""

    @property
    def method(self) -> str:
        """Its label."""


Of = TypeVar("Of", bound=Named)
Part = tuple[Of, Sequence[int]]
"""A job and the indices of some of its pictures, which are computed as one batch where the memory allows it."""


def parts(jobs: Iterable[Of], pictures: int, size: int) -> list[Part[Of]]:
    """Return all jobs in parts.

    Args:
        jobs: The flat list.
        pictures: How many each has.
        size: Pictures of a part; the last one of a job has fewer.
    """
    return [(job, range(pictures)[start : start + size]) for job in jobs for start in range(0, pictures, size)]


def share(whole: Sequence[Part[Of]], shard: Shard | None) -> list[Part[Of]]:
    """Return the parts of a shard, in their order; all of them for None.

    Parts of each method are dealt out in turn, the full batches first, since methods and batches take different time.
    Those of the linear prior stay together: its fit to the training pictures is made once, not by every shard.
    """
    if shard is None:
        return list(whole)
    by_method: dict[str, list[int]] = {}
    for place, (job, _) in enumerate(whole):
        by_method.setdefault(job.method, []).append(place)
    linear = by_method.pop(LINEAR, [])
    largest_first = [sorted(places, key=lambda place: -len(whole[place][1])) for places in by_method.values()]
    cards = [[place] for places in largest_first for place in places] + [linear]
    own = [place for card in cards[shard.number - 1 :: shard.of] for place in card]
    return [whole[place] for place in sorted(own)]


def row_files(folder: Path) -> list[Path]:
    """Return the files of rows in a folder: first that of a process that is no shard, then those of shards."""
    found = {path: Shard.of_file(path) for path in folder.glob(FILES)}
    known = [path for path, shard in found.items() if shard is not None or path.name == "rows.jsonl"]
    return sorted(known, key=lambda path: (0, 0) if (shard := found[path]) is None else (shard.of, shard.number))
