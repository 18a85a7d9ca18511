"""Writers of a summary: text for a terminal, Markdown for documents, and summary.csv with every number."""

import csv
import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtil.evaluation.notes import COLUMNS, notes_on
from rtil.evaluation.statistics import Difference, Interval
from rtil.evaluation.summary import Line, Summary
from rtil.evaluation.tables import NOT_AVAILABLE, Table, overviews, table_of, table_of_scores
from rtil.files import atomic_path
from rtil.inverse.intervals import names_of_levels

OVERVIEW = "mean PSNR in dB"
PARTS: dict[Any, dict[str, str]] = {
    Interval: {"": "mean", "_low": "low", "_high": "high", "_left_out": "left_out"},
    Difference | None: {"": "mean", "_low": "low", "_high": "high", "_win_rate": "win_rate", "_n": "n"},
}
"""Ends of the names of columns in summary.csv, and what stands there, by the type of a line's field."""
IN_NO_FILE = ("seeds", "squared_error", "error_ratio", "scores", "label")


def terminal(summary: Summary) -> str:
    """Return aligned text: a table at most 120 columns wide, with its notes, and overviews."""
    if not summary.lines:
        return "no rows"
    if any(line.scores for line in summary.lines):
        table = table_of_scores(summary)
        return "\n".join(_aligned(table, names=len(table[0])))
    parts = [[*_terminal_table(summary), *notes_on(summary)]]
    parts += [[f"-- {task}, {OVERVIEW} --", *_aligned(table)] for task, table in overviews(summary)]
    return "\n\n".join(map("\n".join, parts))


def markdown(summary: Summary) -> str:
    """Return Markdown: overviews with the best of each level in bold, a table with all intervals, and its notes."""
    if not summary.lines:
        return "no rows"
    if any(line.scores for line in summary.lines):
        return _piped(table_of_scores(summary), names=3)
    parts = []
    for task, ((_, *head), *lines) in overviews(summary, best="**{:.2f}**"):
        parts.append(_piped([[f"{task}, {OVERVIEW}", *head], *lines], names=2))
    parts.append(_piped(table_of(summary, "markdown"), names=3))
    parts.append("\n".join(note.replace("*:", "\\*:") for note in notes_on(summary)))
    return "\n\n".join(parts)


def write_csv(summary: Summary, path: str | Path) -> None:
    """Write every number to a CSV file, atomically; those that are not available are empty.

    Args:
        summary: What is written.
        path: File to write. Columns: see :class:`rtil.evaluation.summary.Line`; an interval ``psnr`` becomes ``psnr``
            (the mean), ``psnr_low``, ``psnr_high`` and ``psnr_left_out`` (values that were not finite); a difference
            has ``_win_rate`` and ``_n`` instead of the last; ``rounds`` becomes ``psnr_round_1`` and so on,
            ``coverage`` ``coverage_50`` and so on. Of the task classifier: the means of its scores.
    """
    rounds = max((len(line.rounds) for line in summary.lines), default=0)
    lines = [numbers_of(line, rounds) for line in summary.lines]
    columns = list(dict.fromkeys(name for line in lines for name in line)) or ["task"]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: _csv_text(value) for name, value in line.items()} for line in lines)


def numbers_of(line: Line, rounds: int) -> dict[str, Any]:
    """Return every number of a line by its column in summary.csv, with columns for so many rounds."""
    return _scores(line) if line.scores else _numbers(line, rounds)


def _terminal_table(summary: Summary) -> list[str]:
    """Return lines of text, without columns that say nothing; names of checkpoints are cut where there is no room."""
    columns = [*zip(*table_of(summary, "terminal"), strict=True)]
    used = [column for i, column in enumerate(columns) if i < 6 or not {*column[1:]} <= {"", NOT_AVAILABLE}]
    widths = [max(map(len, column)) for column in used]
    room = COLUMNS - sum(widths) - 2 * (len(widths) - 1)
    whole, widths[1] = widths[1], max(widths[1] + min(room, 0), len("checkpoint"))
    gap = "  " if whole - widths[1] + room >= 0 else " "
    head, *lines = _aligned([[*line] for line in zip(*used, strict=True)], widths, gap)
    text = [head]
    for condition, own in itertools.groupby(zip(summary.lines, lines, strict=True), lambda pair: pair[0].condition):
        text += [f"-- {condition} ".ljust(len(head), "-"), *(line for _, line in own)]
    return text


def _aligned(table: Table, widths: Sequence[int] = (), gap: str = "  ", names: int = 2) -> list[str]:
    """Return lines of text, the columns of names flush left; what is wider than its column ends in "~"."""
    widths = widths or [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for line in table:
        short = [text if len(text) <= w else text[: w - 1] + "~" for text, w in zip(line, widths, strict=True)]
        parts = [
            text.ljust(w) if i < names else text.rjust(w) for i, (text, w) in enumerate(zip(short, widths, strict=True))
        ]
        lines.append(gap.join(parts).rstrip())
    return lines


def _piped(table: Table, names: int) -> str:
    """Return a Markdown table, the columns of names flush left."""
    head, *lines = table
    rule = ["---"] * names + ["---:"] * (len(head) - names)
    return "\n".join(
        "| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in [head, rule, *lines]
    )


def _numbers(line: Line, rounds: int) -> dict[str, Any]:
    """Return a line of the file by column."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(Line):
        value = getattr(line, field.name)
        if field.name in ("spread", "interval_scale") and not line.coverage:
            continue
        if field.name == "coverage":
            found |= {f"coverage_{name}": share for name, share in zip(names_of_levels(), value, strict=False)}
        elif field.name == "rounds":
            found |= {f"psnr_round_{r + 1}": value[r] if r < len(value) else None for r in range(rounds)}
        elif field.name in IN_NO_FILE:
            continue
        elif field.type in PARTS:
            found |= {field.name + end: value and getattr(value, part) for end, part in PARTS[field.type].items()}
        else:
            found[field.name] = value
    return found


def _scores(line: Line) -> dict[str, Any]:
    own = {"method": line.method, "checkpoint": line.checkpoint, "class": line.level, "settings": line.settings}
    scores = {name.replace("top_", "recognised_"): value for name, value in line.scores.items()}
    return own | {"pictures": line.n} | scores | {"seconds": line.seconds, "diverged": line.diverged}


def _csv_text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
