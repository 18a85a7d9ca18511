"""One line for each method and checkpoint, one column for each level: what ten variants at seven levels look like."""

from collections.abc import Sequence
from typing import NamedTuple

from rtil.evaluation.report import NOT_AVAILABLE, checkpoint_labels, level_text, method_label
from rtil.evaluation.rows import Level, Row
from rtil.evaluation.summary import summarise

TITLE = "mean PSNR in dB"


class Overview(NamedTuple):
    """The mean PSNR of one task.

    Attributes:
        task: Its name.
        levels: Columns.
        lines: ((method, checkpoint), mean PSNR at each level, NaN where there is none).
    """

    task: str
    levels: list[Level]
    lines: list[tuple[tuple[str, str], list[float]]]


def overviews(rows: Sequence[Row]) -> list[Overview]:
    """Return the tables of all tasks with several levels, numbers in ascending order.

    Args:
        rows: Rows of one evaluation.
    """
    cells = summarise(rows)
    labels = checkpoint_labels(cells)
    found = []
    for task in dict.fromkeys(cell.task for cell in cells):
        levels = sorted({cell.level for cell in cells if cell.task == task}, key=_numbers_first)
        lines: dict[tuple[str, str], dict[Level, float]] = {}
        for cell, label in zip(cells, labels, strict=True):
            if cell.task == task:
                lines.setdefault((method_label(cell), label), {})[cell.level] = cell.psnr.mean
        if len(levels) > 1:
            values = {name: [line.get(level, float("nan")) for level in levels] for name, line in lines.items()}
            found.append(Overview(task, levels, list(values.items())))
    return found


def markdown_overview(rows: Sequence[Row]) -> str:
    """Return the tables as Markdown, the best value of each level in bold; "" without a task of several levels."""
    tables = []
    for task, levels, lines in overviews(rows):
        best = [max((v[i] for _, v in lines if v[i] == v[i]), default=None) for i in range(len(levels))]
        header = [f"{task}, {TITLE}", "checkpoint", *[level_text(task, level) for level in levels]]
        text = [header, ["---"] * 2 + ["---:"] * len(levels)]
        for (method, checkpoint), values in lines:
            shown = [_number(value, value == top) for value, top in zip(values, best, strict=True)]
            text.append([method, checkpoint, *shown])
        tables.append("\n".join("| " + " | ".join(part.replace("|", "\\|") for part in line) + " |" for line in text))
    return "\n\n".join(tables)


def terminal_overview(rows: Sequence[Row]) -> str:
    """Return the tables as aligned text; "" without a task of several levels."""
    tables = []
    for task, levels, lines in overviews(rows):
        table = [["method", "checkpoint", *[level_text(task, level) for level in levels]]]
        table += [[*name, *[_number(value) for value in values]] for name, values in lines]
        widths = [max(len(line[i]) for line in table) for i in range(len(levels) + 2)]
        text = [
            "  ".join(
                part.ljust(w) if i < 2 else part.rjust(w) for i, (part, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in table
        ]
        tables.append("\n".join([f"-- {task}, {TITLE} --", *text]))
    return "\n\n".join(tables)


def _numbers_first(level: Level) -> tuple[bool, float, str]:
    return (False, level, "") if isinstance(level, float | int) else (True, 0.0, level or "")


def _number(value: float, bold: bool = False) -> str:
    if value != value:
        return NOT_AVAILABLE
    return f"**{value:.2f}**" if bold else f"{value:.2f}"
