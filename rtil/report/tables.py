"""The table of a report: every line of a summary, each number with its interval and with what it is sorted by."""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from rtil.evaluation.levels import level_text
from rtil.evaluation.notes import MARK
from rtil.evaluation.rows import NO_CHECKPOINT
from rtil.evaluation.statistics import Difference, Interval
from rtil.evaluation.summary import Line
from rtil.evaluation.tables import NOT_AVAILABLE

SECONDS = ("seconds", "Seconds for a picture", attrgetter("seconds"), "{:.3g}")


class Cell(NamedTuple):
    """What stands in a cell.

    Attributes:
        text: The number, or a name.
        interval: Its interval, smaller behind it; "" without one.
        key: What the column is sorted by; a number, or "" where there is none, or a text.
        best: Whether it is the best of its task and level.
    """

    text: str
    interval: str = ""
    key: float | str = ""
    best: bool = False


class Column(NamedTuple):
    """A column: its head, what the head means in full, whether it holds numbers, and its cells."""

    head: str
    meaning: str
    numeric: bool
    cells: Sequence[Cell]


def columns_of(lines: Sequence[Line]) -> list[Column]:
    """Return the columns of a table of these lines, without those that say nothing."""
    if any(line.scores for line in lines):
        found = [*_names(lines, "class"), *_scores(lines)]
    else:
        found = [*_names(lines, "level"), *_reconstructions(lines)]
    return [column for column in found if any(cell.text not in ("", NOT_AVAILABLE) for cell in column.cells)]


def _names(lines: Sequence[Line], level: str) -> list[Column]:
    return [
        Column("task", "Task", False, [Cell(line.task, key=line.task) for line in lines]),
        Column(level, f"The task's {level}", False, [_level(line) for line in lines]),
        Column("method", "Method", False, [_text(line.method + MARK * line.trained_otherwise) for line in lines]),
        Column("prior", "Checkpoint", False, [_text(_prior(line)) for line in lines]),
        Column("n", "Pictures", True, [Cell(str(line.n), key=line.n) for line in lines]),
    ]


def _reconstructions(lines: Sequence[Line]) -> list[Column]:
    whom = {line.reference for line in lines if line.reference}
    than = whom.pop() if len(whom) == 1 else "the reference"
    return [
        _intervals(lines, "PSNR", "Mean PSNR in dB", lambda line: line.psnr, "{:.2f}"),
        _intervals(lines, "SSIM", "Mean SSIM", lambda line: line.ssim, "{:.3f}"),
        _intervals(lines, "LPIPS", "Mean LPIPS, lower is better", lambda line: line.lpips, "{:.3f}", sign=-1),
        _differences(lines, f"vs {than}", f"PSNR less that of {than}, in dB", lambda line: line.psnr_gain),
        _differences(lines, "LPIPS vs", f"LPIPS less that of {than}, lower is better", lambda line: line.lpips_gain, 3),
        _numbers(lines, "win", f"Share of the pictures with a higher PSNR than {than}", _win_rate, "{:.0f} %"),
        _differences(lines, "vs linear", "PSNR less that of the linear prior, in dB", lambda line: line.over_linear),
        _numbers(lines, "best round*", "Mean PSNR in dB when stopped after the best round", _best_round, "{:.2f}"),
        _numbers(lines, "oracle*", "Mean PSNR in dB of each picture's best iterate", _oracle, "{:.2f}"),
        _numbers(lines, "diverged", "Reconstructions that became non-finite on the way", _diverged, "{:.0f}"),
        _numbers(lines, *SECONDS),
    ]


def _scores(lines: Sequence[Line]) -> list[Column]:
    heads = {
        "probability_before": ("p before", "Probability of the class at the start"),
        "probability_after": ("p after", "Probability of the class in the end"),
        "top_after": ("top class", "Share of the pictures that are taken for the class"),
        "rms_change": ("rms change", "How far pictures moved, root mean square in [0, 1]"),
    }
    found = [
        _numbers(lines, head, meaning, lambda line, name=name: line.scores.get(name, math.nan), "{:.3f}")  # type: ignore[misc]
        for name, (head, meaning) in heads.items()
    ]
    return [*found, _numbers(lines, *SECONDS)]


def _prior(line: Line) -> str:
    return "" if line.checkpoint == NO_CHECKPOINT else line.label


def _text(text: str) -> Cell:
    return Cell(text, key=text)


def _level(line: Line) -> Cell:
    key = line.level if isinstance(line.level, str | float | int) else ""
    return Cell(level_text(line.task, line.level), key=key)


def _intervals(
    lines: Sequence[Line],
    head: str,
    meaning: str,
    of: Callable[[Line], Interval],
    form: str,
    sign: int = 1,
) -> Column:
    """Return a column of means, the largest of each cell marked; with sign -1 the smallest."""
    best: dict[tuple[object, ...], float] = {}
    for line in lines:
        if math.isfinite(of(line).mean):
            cell = line.task, line.level
            best[cell] = max(best.get(cell, -math.inf), sign * of(line).mean)
    several = {cell for cell in best if sum((line.task, line.level) == cell for line in lines) > 1}
    cells = []
    for line in lines:
        is_best = (line.task, line.level) in several and sign * of(line).mean == best[line.task, line.level]
        cells.append(_interval(of(line), form)._replace(best=is_best))
    return Column(head, meaning, True, cells)


def _differences(
    lines: Sequence[Line], head: str, meaning: str, of: Callable[[Line], Difference | None], places: int = 2
) -> Column:
    found, form = [of(line) for line in lines], f"{{:+.{places}f}}"
    return Column(head, meaning, True, [Cell("") if some is None else _interval(some, form) for some in found])


def _numbers(lines: Sequence[Line], head: str, meaning: str, of: Callable[[Line], float], form: str) -> Column:
    values = [float(of(line)) for line in lines]
    return Column(head, meaning, True, [Cell("") if math.isnan(v) else Cell(form.format(v), key=v) for v in values])


def _interval(interval: Interval, form: str) -> Cell:
    if math.isnan(interval.mean):
        return Cell(NOT_AVAILABLE)
    ends = f"[{form.format(interval.low)}, {form.format(interval.high)}]" if interval.is_shown else ""
    return Cell(form.format(interval.mean), ends, interval.mean)


def _win_rate(line: Line) -> float:
    return math.nan if line.psnr_gain is None else 100 * line.psnr_gain.win_rate


def _diverged(line: Line) -> float:
    return line.diverged or math.nan


def _best_round(line: Line) -> float:
    return math.nan if line.best_round is None else line.rounds[line.best_round - 1]


def _oracle(line: Line) -> float:
    return math.nan if line.checkpoint == NO_CHECKPOINT else line.oracle.mean
