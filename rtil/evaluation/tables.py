"""What stands in the tables of a summary, as texts; how they are laid out is the writers' affair."""

import math
from collections.abc import Callable, Collection, Iterator
from typing import Literal

from rtil.evaluation.levels import level_text
from rtil.evaluation.notes import DECIDED, MARK
from rtil.evaluation.rows import NO_CHECKPOINT, Level
from rtil.evaluation.statistics import Difference, Interval
from rtil.evaluation.summary import Line, Summary
from rtil.inverse.intervals import names_of_levels

NOT_AVAILABLE = "n/a"
SCORES = {
    "probability_before": "p before",
    "probability_after": "p after",
    "top_after": "top class",
    "rms_change": "rms change",
}
"""What is shown of the task classifier; top class: the share of pictures that are taken for the class."""

Table = list[list[str]]
"""Lines of texts; the first is the head."""


def table_of(summary: Summary, writer: Literal["terminal", "markdown"]) -> Table:
    """Return one line of texts for each line of a summary; only Markdown has room for all intervals."""
    references = set(summary.references.values())
    decided = {id(line) for line, is_decided in zip(summary.lines, summary.decided, strict=True) if is_decided}
    columns = _columns(references.pop() if len(references) == 1 else "reference", decided)
    if any(line.coverage for line in summary.lines):
        levels = " / ".join(names_of_levels())
        columns.append(("", f"% of pixels in intervals of {levels} %", _coverage))
    shown = [(head[writer == "markdown"], text) for *head, text in columns if head[writer == "markdown"]]
    return [[head for head, _ in shown], *([text(line) for _, text in shown] for line in summary.lines)]


def table_of_scores(summary: Summary) -> Table:
    """Return one line for each class, method and checkpoint of the task classifier."""
    return [
        ["method", "checkpoint", "class", *SCORES.values()],
        *(
            [_method(line), line.label, str(line.level), *(f"{line.scores[name]:.3f}" for name in SCORES)]
            for line in summary.lines
        ),
    ]


def overviews(summary: Summary, best: str = "{:.2f}") -> Iterator[tuple[str, Table]]:
    """Yield each task of several levels with the mean PSNR at each, numbers in ascending order.

    Args:
        summary: The summary; ten variants at seven levels are easier to compare so.
        best: Form of the best value of a level.
    """
    for task in dict.fromkeys(line.task for line in summary.lines):
        means: dict[tuple[str, str], dict[Level, float]] = {}
        for line in summary.lines:
            if line.task == task:
                means.setdefault((_method(line), line.label), {})[line.level] = line.psnr.mean
        levels = sorted({level for of in means.values() for level in of}, key=_numbers_first)
        if len(levels) > 1:
            values = [[of.get(level, math.nan) for level in levels] for of in means.values()]
            tops = [max((v for v in column if not math.isnan(v)), default=None) for column in zip(*values, strict=True)]
            forms = [[best if v == top else "{:.2f}" for v, top in zip(of, tops, strict=True)] for of in values]
            lines = [[*names, *map(_number, of, form)] for names, of, form in zip(means, values, forms, strict=True)]
            yield task, [["method", "checkpoint", *(level_text(task, level) for level in levels)], *lines]


def _columns(versus: str, decided: Collection[int]) -> list[tuple[str, str, Callable[[Line], str]]]:
    """Return the columns' heads, on a terminal and in Markdown, "" where they are not shown; and their texts."""

    def gain(line: Line) -> str:
        return _with_interval(line.psnr_gain) + DECIDED * (id(line) in decided)

    return [
        ("", "task", lambda line: line.condition),
        ("method", "method", _method),
        ("checkpoint", "checkpoint", lambda line: line.label),
        ("", "kimg", lambda line: "" if line.checkpoint == NO_CHECKPOINT else _number(line.kimg, "{:g}")),
        ("n", "n", lambda line: str(line.n)),
        ("PSNR dB", "", _with_half_width),
        ("", "PSNR dB [95 %]", lambda line: _with_interval(line.psnr, "{:.2f}")),
        ("SSIM", "SSIM", lambda line: _number(line.ssim.mean, "{:.3f}")),
        ("LPIPS", "LPIPS", lambda line: _number(line.lpips.mean, "{:.3f}")),
        (f"vs {versus[:10]} [95 %]", f"vs {versus} dB [95 %]", gain),
        ("win", "win", lambda line: _win_rate(line.psnr_gain)),
        ("best round*", "", _best_round),
        ("", "after each round* dB", lambda line: " / ".join(_number(mean, "{:.2f}") for mean in line.rounds)),
        ("vs*", "", lambda line: _mean(line.best_round_gain)),
        ("", "best rounds compared* dB", lambda line: _with_interval(line.best_round_gain)),
        ("oracle*", "oracle* dB", _oracle),
        ("vs linear", "", lambda line: _mean(line.over_linear)),
        ("", "vs linear dB [95 %]", lambda line: _with_interval(line.over_linear)),
    ]


def _numbers_first(level: Level) -> tuple[bool, float, str]:
    return (False, level, "") if isinstance(level, float | int) else (True, 0.0, level or "")


def _number(value: float, form: str) -> str:
    return NOT_AVAILABLE if math.isnan(value) else form.format(value)


def _method(line: Line) -> str:
    return line.method + MARK * line.trained_otherwise


def _mean(difference: Difference | None) -> str:
    return "" if difference is None else _number(difference.mean, "{:+.2f}")


def _with_interval(interval: Interval | None, form: str = "{:+.2f}") -> str:
    if interval is None:
        return ""
    mean = _number(interval.mean, form)
    return f"{mean} [{form.format(interval.low)}, {form.format(interval.high)}]" if interval.is_shown else mean


def _with_half_width(line: Line) -> str:
    half = (line.psnr.high - line.psnr.low) / 2
    return _number(line.psnr.mean, "{:.2f}") + (f" +-{half:.2f}" if line.psnr.is_shown else "")


def _win_rate(difference: Difference | None) -> str:
    return "" if difference is None else _number(100 * difference.win_rate, "{:.0f} %")


def _coverage(line: Line) -> str:
    return " / ".join(_number(100 * share, "{:.0f}") for share in line.coverage)


def _best_round(line: Line) -> str:
    at = line.best_round
    return "" if at is None else f"{line.rounds[at - 1]:.2f} ({at}/{len(line.rounds)})"


def _oracle(line: Line) -> str:
    return "" if line.checkpoint == NO_CHECKPOINT else _number(line.oracle.mean, "{:.2f}")
