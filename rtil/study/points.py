"""What a figure shows, as numbers: panels of curves of points with their intervals, for drawing and for CSV files."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rtil.evaluation.curves import LOGARITHMIC_SPAN
from rtil.evaluation.levels import level_text, scale_of
from rtil.evaluation.rows import NO_CHECKPOINT, Level, Row
from rtil.evaluation.statistics import Interval, by_seed, mean_interval
from rtil.evaluation.summary import Line
from rtil.study.published import published
from rtil.study.results import Result
from rtil.study.specification import FigureSpec, Metric
from rtil.study.tuning import Choice

METRICS: Mapping[Metric, str] = {
    "psnr": "PSNR [dB]",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "squared_error": "mean squared error, pixels in [0, 1]",
}


@dataclass(frozen=True, order=True)
class Curve:
    """Whose points they are: a method and a checkpoint ("" for no other); or what somebody published."""

    method: str
    checkpoint: str = ""
    source: str = ""

    @property
    def label(self) -> str:
        """For a legend."""
        return ", ".join(part for part in (self.method, self.checkpoint, self.source) if part)


@dataclass(frozen=True)
class Point:
    """A point: where it stands, its mean with its interval, and of how many pictures and seeds."""

    x: float
    interval: Interval
    seeds: int = 1


@dataclass(frozen=True)
class Panel:
    """A pair of axes.

    Attributes:
        title: Above it.
        x_label: Below it.
        y_label: Beside it.
        curves: Points by curve.
        ticks: Where the horizontal axis is labelled, and how; empty leaves that to its numbers.
        logarithmic: Which axes are, of ``xy``.
        bars: Whether points are bars, side by side about each tick.
    """

    title: str
    x_label: str
    y_label: str
    curves: Mapping[Curve, Sequence[Point]]
    ticks: Mapping[float, str] = field(default_factory=dict)
    logarithmic: str = ""
    bars: bool = False


def panels_of(figure: FigureSpec, results: Mapping[str, Result], choices: Sequence[Choice]) -> list[Panel]:
    """Return the panels of a figure; none where nothing that it shows was evaluated.

    Args:
        figure: What is wanted.
        results: Of the study, by evaluation.
        choices: Of its tuning.
    """
    wanted = {name: results[name] for name in figure.evaluations or results}
    if figure.kind == "tuning_trace":
        return [_trace([c for c in choices if c.candidate.evaluation == name], name) for name in wanted]
    if figure.kind == "rounds":
        return [panel for result in wanted.values() for panel in _rounds(figure, result)]
    if figure.kind == "error_vs_seconds":
        return [_seconds(figure, result, metric) for result in wanted.values() for metric in figure.metrics]
    found = []
    for metric in figure.metrics:
        for result in wanted.values():
            lines = [line for line in result.summary.lines if _is_shown(figure, line)]
            for task in dict.fromkeys(line.task for line in lines):
                own = [line for line in lines if line.task == task]
                found.append(_levels(figure, own, metric))
    return [panel for panel in found if panel.curves]


def _is_shown(figure: FigureSpec, of: Line | Row) -> bool:
    return not figure.lines or f"{of.method} {of.checkpoint}" in figure.lines


def _curve(line: Line) -> Curve:
    return Curve(line.method, "" if line.checkpoint == NO_CHECKPOINT else line.label)


def _levels(figure: FigureSpec, lines: Sequence[Line], metric: Metric) -> Panel:
    """Return a metric against the levels of a task, as curves or as groups of bars."""
    task, bars = lines[0].task, figure.kind == "ablation_bars"
    levels = sorted({line.level for line in lines}, key=_order)
    others = [one for one in published(figure.published) if one.task == task and one.metric == metric]
    numbers = {float(level) for level in levels if isinstance(level, int | float) and math.isfinite(level)}
    numbers |= {one.level for one in others}
    places: dict[Level, float] = {level: float(place) for place, level in enumerate(levels)}
    if not bars:
        places = {level: level * scale_of(task).factor for level in sorted(numbers)}
    curves: dict[Curve, list[Point]] = {}
    for line in lines:
        interval: Interval = getattr(line, metric)
        if line.level in places and interval.n:
            curves.setdefault(_curve(line), []).append(Point(places[line.level], interval, line.seeds))
    for one in others if curves else []:
        half = math.nan if one.half_width is None else one.half_width
        interval = Interval(one.value, one.value - half, one.value + half, one.images, 0)
        source = f"published, {one.side_px} px"
        if one.level in places:
            curves.setdefault(Curve(one.method, one.checkpoint, source), []).append(Point(places[one.level], interval))
    ticks = {place: level_text(task, level) for level, place in places.items()} if bars else {}
    at = sorted(places.values())
    if not bars:
        ticks = {place: f"{place:g}" for place in at}
    is_wide = not bars and len(at) > 1 and at[0] > 0 and at[-1] / at[0] > LOGARITHMIC_SPAN
    logarithmic = "x" * is_wide + "y" * (metric == "squared_error" and not bars)
    axis = task if bars or scale_of(task).axis == "level" else scale_of(task).axis
    ordered = {curve: sorted(points, key=lambda point: point.x) for curve, points in curves.items()}
    return Panel(task, axis, METRICS[metric], ordered, ticks, logarithmic, bars)


def _rounds(figure: FigureSpec, result: Result) -> Iterator[Panel]:
    rows = [row for row in result.rows if row.psnr_round and _is_shown(figure, row)]
    conditions = {(line.task, line.level): line.condition for line in result.summary.lines}
    for condition, title in conditions.items():
        own: dict[Curve, list[Row]] = {}
        for row in rows:
            if (row.task, row.level) == condition:
                own.setdefault(Curve(row.method, row.checkpoint), []).append(row)
        curves = {curve: _after_rounds(of) for curve, of in own.items()}
        if curves:
            most = max(len(points) for points in curves.values())
            ticks = {float(k): str(k) for k in range(1, most + 1)}
            yield Panel(title, "rounds", METRICS["psnr"], curves, ticks)


def _after_rounds(rows: Sequence[Row]) -> list[Point]:
    seeds = len({row.seed for row in rows})
    tables = [
        by_seed({(row.image, row.seed): row.psnr_round[k] for row in rows})
        for k in range(min(len(row.psnr_round) for row in rows))
    ]
    return [Point(k, mean_interval(table), seeds) for k, table in enumerate(tables, start=1)]


def _seconds(figure: FigureSpec, result: Result, metric: Metric) -> Panel:
    """Return a metric against the seconds of a picture; what is one curve, the figure says."""
    of_method = {method: name for name, methods in figure.curves.items() for method in methods}
    curves: dict[Curve, list[Point]] = {}
    for line in result.summary.lines:
        interval: Interval = getattr(line, metric)
        if _is_shown(figure, line) and interval.n and (not of_method or line.method in of_method):
            curve = Curve(of_method.get(line.method, line.method), _curve(line).checkpoint)
            curves.setdefault(curve, []).append(Point(line.seconds, interval, line.seeds))
    ordered = {curve: sorted(points, key=lambda point: point.x) for curve, points in curves.items()}
    conditions = ", ".join(dict.fromkeys(line.condition for line in result.summary.lines))
    return Panel(conditions, "seconds a picture", METRICS[metric], ordered, {}, "xy")


def _trace(choices: Sequence[Choice], title: str) -> Panel:
    """Return the best trial so far of each candidate."""
    curves = {}
    for choice in choices:
        best = np.maximum.accumulate([trial.psnr for trial in choice.trials])
        of = choice.candidate
        training = "" if of.training_seed is None else f" {of.training_seed}"
        curves[Curve(of.label, of.checkpoint + training)] = [
            Point(number, Interval(float(value), math.nan, math.nan, trial.n, 0))
            for number, (value, trial) in enumerate(zip(best, choice.trials, strict=True), start=1)
        ]
    return Panel(f"{title}: best so far", "trials", "PSNR [dB], validation pictures", curves)


def _order(level: Level) -> tuple[bool, float, str]:
    return (False, float(level), "") if isinstance(level, int | float) else (True, 0.0, level or "")
