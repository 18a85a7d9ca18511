"""What a report is made of: evaluation folders, read, and the figures that go with them."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rtil.errors import UserError
from rtil.evaluation.folder import read_evaluation
from rtil.evaluation.rows import Row, RowKey, read_rows, warn_of_damage
from rtil.evaluation.shards import row_files
from rtil.evaluation.summary import Line, Summary, summarise

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Figure:
    """A figure of a study.

    Attributes:
        title: Above it.
        alt: What it shows, for who cannot see it.
        svg: The figure.
        csv: Its data; None where there is no file of them.
        caption: Below it.
    """

    title: str
    alt: str
    svg: Path
    csv: Path | None
    caption: str


@dataclass(frozen=True)
class Part:
    """One evaluation of a report.

    Attributes:
        title: Its heading.
        folder: The evaluation's: settings.json, rows.jsonl, pictures/.
        figures: What was drawn of it.
        text: What is said before its numbers; an empty line separates paragraphs.
    """

    title: str
    folder: Path
    figures: Sequence[Figure] = ()
    text: str = ""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation as it lies in its folder.

    Attributes:
        folder: Where.
        settings: Of its settings.json.
        rows: Of all its shards, one of each key.
        summary: What they come to.
        damaged: Lines that are no rows any more.
        digest: First 12 hex digits of the SHA-256 of its files of rows.
    """

    folder: Path
    settings: Mapping[str, Any]
    rows: Sequence[Row]
    summary: Summary
    damaged: int
    digest: str

    def rows_of(self, line: Line) -> list[Row]:
        """Return the rows of a line."""
        return self._rows_by_place[place_of(line)]

    @cached_property
    def _rows_by_place(self) -> dict[tuple[object, ...], list[Row]]:
        found: dict[tuple[object, ...], list[Row]] = {}
        for row in self.rows:
            found.setdefault(place_of(row), []).append(row)
        return found


def read_part(folder: Path) -> Evaluated:
    """Read an evaluation, which may be under way.

    Raises:
        UserError: The folder holds none, or one without rows.
    """
    settings = read_evaluation(folder)
    rows, damaged, digest = dict[RowKey, Row](), 0, hashlib.sha256()
    for path in row_files(folder):
        found = read_rows(path)
        warn_of_damage(path, found)
        damaged += len(found.damaged)
        digest.update(path.read_bytes())
        for row in found.rows:
            rows.setdefault(row.key, row)
    if not rows:
        raise UserError(f"{folder} has no rows yet: give the folder of an evaluation that has begun")
    return Evaluated(folder, settings, [*rows.values()], summarise([*rows.values()]), damaged, digest.hexdigest()[:12])


def place_of(of: Row | Line) -> tuple[object, ...]:
    """Return what tells the rows of one line from those of all others."""
    return of.task, of.level, of.method, of.checkpoint, of.selection, of.settings


def name_of(line: Line) -> str:
    """Return how people call a line within its cell: method and checkpoint."""
    return line.method if line.checkpoint == "-" else f"{line.method}, {line.label}"
