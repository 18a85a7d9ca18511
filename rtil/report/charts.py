"""The charts that a report draws itself, as shapes in pixels; the page gives them their colours, light or dark.

Two kinds: a task's mean PSNR at each of its levels with 95 % intervals, and paired gains over the reference, cell by
cell, against 0. A series has a colour and a shape, so that neither is needed alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from rtil.evaluation.curves import LOGARITHMIC_SPAN
from rtil.evaluation.levels import level_text, scale_of
from rtil.evaluation.statistics import Interval
from rtil.evaluation.summary import Line
from rtil.report.parts import name_of

WIDTH, HEIGHT = 720.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 16.0, 12.0, 46.0
ROW, LABELS = 24.0, 270.0
"""Of a chart of gains: height of a line, and room for its name."""
SERIES = 8
"""Colours and shapes that the page knows."""
SPREAD = 5.0
"""Distance of two series at one level, which would else hide each other's intervals."""


class Tick(NamedTuple):
    """Where on an axis a number stands."""

    at: float
    text: str


class Point(NamedTuple):
    """A mean, with its interval if there is one, and what is said of it."""

    x: float
    y: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Series:
    """What belongs together.

    Attributes:
        name: For the legend, and of the filter.
        look: Number of its colour and shape.
        points: From left to right, or from top to bottom.
    """

    name: str
    look: int
    points: Sequence[Point]

    @property
    def path(self) -> str:
        """The line through its points, as SVG has it."""
        return "M" + "L".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        kind: "levels" or "gains".
        title: Above it.
        alt: What it shows.
        x_label: Of the horizontal axis.
        y_label: Of the vertical one; "" for none.
        width: Of the whole, as are height and the plot's left, right, top, bottom.
        x_ticks: Places on the horizontal axis.
        y_ticks: On the vertical one.
        series: What is drawn.
        task: Whose it is; "" of several.
    """

    kind: str
    title: str
    alt: str
    x_label: str
    y_label: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    series: Sequence[Series]
    task: str = ""
    zero: float | None = field(default=None)


def looks_of(lines: Sequence[Line]) -> dict[str, int]:
    """Return the colour of each method and checkpoint, the same in all charts of an evaluation."""
    return {name: number % SERIES for number, name in enumerate(dict.fromkeys(map(name_of, lines)))}


def charts_of(lines: Sequence[Line]) -> list[Chart]:
    """Return what can be drawn of an evaluation's lines."""
    looks = looks_of(lines)
    found = []
    for task in dict.fromkeys(line.task for line in lines):
        chart = _levels(task, [line for line in lines if line.task == task], looks)
        found += [] if chart is None else [chart]
    gains = [line for line in lines if line.psnr_gain is not None and math.isfinite(line.psnr_gain.mean)]
    return found + ([_gains(gains, looks)] if gains else [])


def _levels(task: str, lines: Sequence[Line], looks: Mapping[str, int]) -> Chart | None:
    shown = [line for line in lines if isinstance(line.level, int | float) and math.isfinite(line.psnr.mean)]
    levels = sorted({float(line.level or 0) for line in shown})
    if len(levels) < 2:
        return None
    is_log = levels[0] > 0 and levels[-1] / levels[0] > LOGARITHMIC_SPAN
    ticks, y = _axis([end for line in shown for end in _ends(line.psnr)], HEIGHT - BOTTOM, TOP)
    names = list(dict.fromkeys(map(name_of, shown)))
    inset = SPREAD * len(names) / 2 + 8
    _, x = _scale([math.log(level) if is_log else level for level in levels], LEFT + inset, WIDTH - RIGHT - inset)
    series = []
    for number, name in enumerate(names):
        own = sorted((line for line in shown if name_of(line) == name), key=lambda line: float(line.level or 0))
        shift = (number - (len(names) - 1) / 2) * SPREAD
        points = []
        for line in own:
            level = float(line.level or 0)
            low, high = (y(line.psnr.low), y(line.psnr.high)) if line.psnr.is_shown else (None, None)
            text = f"{name}, {line.condition}: {_said(line.psnr, '{:.2f}')}"
            points.append(Point(x(math.log(level) if is_log else level) + shift, y(line.psnr.mean), low, high, text))
        series.append(Series(name, looks[name], points))
    x_ticks = [Tick(x(math.log(level) if is_log else level), f"{scale_of(task).factor * level:g}") for level in levels]
    words = ", ".join(level_text(task, level) for level in levels)
    alt = f"Mean PSNR in dB of {', '.join(names)} at {words}, with 95 % intervals; the numbers are in the table."
    title = f"{task}: mean PSNR at each level"
    sides = (WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)
    return Chart("levels", title, alt, scale_of(task).axis, "dB", *sides, _apart(x_ticks), ticks, series, task)


def _gains(lines: Sequence[Line], looks: Mapping[str, int]) -> Chart:
    bottom = TOP + ROW * len(lines)
    gains = [line.psnr_gain for line in lines if line.psnr_gain is not None]
    ticks, x = _axis([0.0, *(end for gain in gains for end in _ends(gain))], LABELS, WIDTH - RIGHT)
    rows, points = [], dict[str, list[Point]]()
    for number, (line, gain) in enumerate(zip(lines, gains, strict=True)):
        at = TOP + ROW * (number + 0.5)
        rows.append(Tick(at, f"{line.condition} · {name_of(line)}"))
        low, high = (x(gain.low), x(gain.high)) if gain.is_shown else (None, None)
        text = f"{name_of(line)} less {line.reference}, {line.condition}: {_said(gain, '{:+.2f}')}"
        points.setdefault(name_of(line), []).append(Point(x(gain.mean), at, low, high, text))
    series = [Series(name, looks[name], own) for name, own in points.items()]
    alt = f"Paired gain in dB over the reference, {len(lines)} comparisons with 95 % intervals, against a line at 0."
    title = "Gain over the reference, paired by picture"
    sides = (WIDTH, bottom + BOTTOM, LABELS, WIDTH - RIGHT, TOP, bottom)
    return Chart("gains", title, alt, "dB, right of 0 is better", "", *sides, ticks, rows, series, zero=x(0.0))


def _ends(interval: Interval) -> tuple[float, ...]:
    return (interval.low, interval.mean, interval.high) if interval.is_shown else (interval.mean,)


def _said(interval: Interval, form: str) -> str:
    ends = f" [{form.format(interval.low)}, {form.format(interval.high)}]" if interval.is_shown else ""
    return f"{form.format(interval.mean)} dB{ends}, n = {interval.n}"


def _axis(values: Sequence[float], start: float, end: float) -> "tuple[list[Tick], _Scale]":
    """Return round numbers that span the values, and the scale between them."""
    low, high = min(values), max(values)
    if high - low < 0.1:
        low, high = low - 0.5, high + 0.5
    numbers = [float(number) for number in MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    ends, scale = _scale(numbers, start, end)
    return [Tick(scale(number), f"{number:g}") for number in numbers if ends[0] <= number <= ends[1]], scale


class _Scale(NamedTuple):
    first: float
    start: float
    factor: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.first) * self.factor


def _scale(values: Sequence[float], start: float, end: float) -> tuple[tuple[float, float], _Scale]:
    first, last = min(values), max(values)
    return (first, last), _Scale(first, start, (end - start) / ((last - first) or 1.0))


def _apart(ticks: Sequence[Tick], least: float = 36.0) -> list[Tick]:
    """Leave out labels that would touch the one before."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or tick.at - kept[-1].at >= least:
            kept.append(tick)
    return kept
