"""Joins the rows of shards, and tells what is missing, what is there twice and what does not belong there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from rtil.evaluation.folder import IDENTITY, SOLVERS
from rtil.evaluation.jobs import Job
from rtil.evaluation.rows import NO_CHECKPOINT, Row, RowKey, read_rows, warn_of_damage
from rtil.evaluation.shards import Part, Shard, share

NAMED = 3
"""Pictures that are named of each kind."""


@dataclass(frozen=True)
class Joined:
    """The rows of several files.

    Attributes:
        rows: Each once, in the order in which one process would have written them; behind them those of jobs that the
            evaluation had earlier.
        missing: Keys of the list of jobs that no file has.
        double: Rows that are in several files, the one that is kept and the other one.
        foreign: Rows of settings, weights or pictures that the evaluation never had.
    """

    rows: list[Row]
    missing: list[RowKey]
    double: list[tuple[Row, Row]]
    foreign: list[Row]

    @property
    def contradicting(self) -> list[tuple[Row, Row]]:
        """Those of the double rows that differ in more than the seconds."""
        return [(kept, other) for kept, other in self.double if _values(kept) != _values(other)]


def join(files: Sequence[Path], jobs: Sequence[Job], settings: Mapping[str, Any], content: Sequence[str]) -> Joined:
    """Read files of rows and join them.

    Args:
        files: The files; of a key that several have, the first one's row is kept.
        jobs: The list of jobs.
        settings: Of the evaluation, from :func:`rtil.evaluation.folder.read_evaluation`.
        content: Hash of each picture, "" of those that are not known.

    Raises:
        RunError: A file cannot be read.
    """
    weights = {NO_CHECKPOINT, *settings.get(IDENTITY, {}).get("weights", {})}
    expected = [key for job in jobs for key in job.keys]
    hashes = {key.image: of_picture for job in jobs for key, of_picture in zip(job.keys, content, strict=True)}
    found: dict[RowKey, Row] = {}
    double, foreign = [], []
    for row in (row for path in files for row in _rows(path)):
        other_picture = row.picture and hashes.get(row.image) and row.picture != hashes[row.image]
        if row.settings not in settings.get(SOLVERS, {}) or row.checkpoint not in weights or other_picture:
            foreign.append(row)
        elif row.key in found:
            double.append((found[row.key], row))
        else:
            found[row.key] = row
    missing = [key for key in expected if key not in found]
    rows = [found.pop(key) for key in expected if key in found]
    return Joined([*rows, *found.values()], missing, double, foreign)


def tell(joined: Joined, parts: Sequence[Part[Job]], files: Sequence[Path]) -> Iterator[str]:
    """Yield lines about what is not as it should be.

    Args:
        joined: What was found.
        parts: All parts of the list of jobs.
        files: Where it was found.
    """
    total = sum(len(indices) for _, indices in parts)
    if joined.missing:
        yield f"missing: {len(joined.missing)} of {total} rows"
        for where, keys in groupby(joined.missing, key=lambda key: key._replace(image="")):
            yield f"  {_place(where)}: {_names([key.image for key in keys])}"
        lacking = set(joined.missing)
        shards = [shard for shard in _shards(files) if any(_keys(part) & lacking for part in share(parts, shard))]
        if shards:
            yield f"  to go on with: --shard {', --shard '.join(map(str, shards))}"
    if joined.double:
        yield f"double: {len(joined.double)} rows are there twice, the first of each is kept"
    for kept, other in joined.contradicting[:NAMED]:
        numbers = f"{kept.psnr:.4f} and {other.psnr:.4f} dB"
        yield f"  with other numbers: {kept.image!r} of {_place(kept.key)}, {numbers}"
    if len(joined.contradicting) > NAMED:
        yield f"  and {len(joined.contradicting) - NAMED} more with other numbers"
    if joined.foreign:
        yield f"foreign: {len(joined.foreign)} rows of other settings, weights or pictures are left out"
        for where, rows in groupby(joined.foreign, key=lambda row: row.key._replace(image="")):
            yield f"  {_place(where)}: {_names([row.image for row in rows])}"


def _rows(path: Path) -> list[Row]:
    found = read_rows(path)
    warn_of_damage(path, found)
    return found.rows


def _shards(files: Sequence[Path]) -> list[Shard]:
    """Return all shards of the division that the files are of; none where there are several or no divisions."""
    counts = {shard.of for path in files if (shard := Shard.of_file(path)) is not None}
    return [Shard(number, of) for of in counts for number in range(1, of + 1)] if len(counts) == 1 else []


def _keys(part: Part[Job]) -> set[RowKey]:
    job, indices = part
    return {job.keys[index] for index in indices}


def _place(key: RowKey) -> str:
    level = "" if key.level is None else f" {key.level}"
    checkpoint = "" if key.checkpoint == NO_CHECKPOINT else f" {key.checkpoint}"
    return f"{key.task}{level}, {key.method}{checkpoint}"


def _names(images: Sequence[str]) -> str:
    more = f" and {len(images) - NAMED} more" if len(images) > NAMED else ""
    return ", ".join(map(repr, images[:NAMED])) + more


def _values(row: Row) -> str:
    """Return all but the time; as text, in which NaN equals NaN."""
    return repr(replace(row, seconds=0))
