"""Error against the level of a task, one line for each method and checkpoint (as figure 2 of ILO, ICML 2021).

Means over images with 95 % bootstrap intervals; several seeds of one image are averaged first, and diverged
reconstructions count with their best finite iterate, as in the tables. The intervals are of each line on its own: two
lines may differ clearly, image by image, though their intervals overlap; the tables have the paired differences.

A method has one colour and marker, and a checkpoint one line style, in all pictures of an evaluation; methods without a
checkpoint are dotted. Where one level has several selections or settings, each is a line of its own.
"""

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from rtil.charts import COLOURS, apart, format_errors, save_chart
from rtil.evaluation.levels import scale_of
from rtil.evaluation.rows import NO_CHECKPOINT
from rtil.evaluation.statistics import Interval
from rtil.evaluation.summary import Line, Summary, checkpoint_names, series_of, with_several_settings
from rtil.inverse.operators import OPERATORS

WIDTH_INCHES = (6.0, 9.0)
"""With one panel, and with two."""
HEIGHT_INCHES, LEGEND_ROW_INCHES = 3.6, 0.22
LEGEND_POINTS, LETTER_POINTS = 45, 5.5
"""Width of an entry of the legend: without its text, and for each letter."""
LOGARITHMIC_SPAN = 8
"""Levels that span more than this factor are drawn on a logarithmic axis."""
MARKERS = "os^DvPX*<"  # their number and that of the colours have no common divisor
STYLES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
NO_CHECKPOINT_STYLE = ":"


class Name(NamedTuple):
    """What a curve stands for, in words."""

    method: str
    checkpoint: str


class Look(NamedTuple):
    """How a curve is drawn, in matplotlib's words."""

    color: str
    marker: str
    linestyle: Any


Curves = Mapping[Name, Mapping[float, Line]]
"""Lines of the summary by curve, and by level in the unit of its axis."""


def write_curves(summary: Summary, folder: Path) -> list[Path]:
    """Draw ``curves-<task>.png`` for each task with at least two levels; returns the files.

    Args:
        summary: Of one evaluation. Lines whose level is no number, but a mask file or none, are left out.
        folder: Where the pictures go; made if missing.
    """
    paths = []
    for task in dict.fromkeys(line.task for line in summary.lines):
        if len({line.level for line in _numbered(summary) if line.task == task}) > 1:
            paths.append(folder / f"curves-{task}.png")
            save_chart(curves_figure(summary, task), paths[-1])
    return paths


def curves_figure(summary: Summary, task: str) -> Figure:
    """Return the picture of one task: mean squared error per pixel on [0, 1] and, where known, LPIPS.

    Args:
        summary: Of one evaluation; its other tasks share colours and styles.
        task: The task to draw; at least one of its lines has a number as its level.
    """
    lines = _numbered(summary)
    names = _names(lines)
    looks = _looks(names)
    curves: dict[Name, dict[float, Line]] = {}
    for line, name in zip(lines, names, strict=True):
        if line.task == task:
            curves.setdefault(name, {})[float(line.level or 0) * scale_of(task).factor] = line
    panels = {"mean squared error, pixels in [0, 1]": attrgetter("squared_error")}
    if any(line.lpips.n for curve in curves.values() for line in curve.values()):
        panels["LPIPS"] = attrgetter("lpips")

    handles = _handles({name: looks[name] for name in curves})
    width = WIDTH_INCHES[len(panels) - 1]
    columns = _legend_columns(handles, width)
    height = HEIGHT_INCHES + LEGEND_ROW_INCHES * math.ceil(len(handles) / columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    for k, (label, of) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), k + 1, ylabel=label)
        for name, curve in curves.items():
            _draw(axes, name, {level: of(curve[level]) for level in sorted(curve)}, looks[name])
        _format_levels(axes, task, sorted({level for curve in curves.values() for level in curve}))
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    format_errors(figure.axes[0])
    figure.suptitle(_title(task, curves), fontsize=10)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return figure


def _numbered(summary: Summary) -> list[Line]:
    return [line for line in summary.lines if isinstance(line.level, int | float) and math.isfinite(line.level)]


def _names(lines: Sequence[Line]) -> list[Name]:
    """Name each line's curve, with selection and settings where these differ within one level."""
    several = {series for series, _ in with_several_settings(lines)}
    return [
        Name(f"{line.method} #{line.settings[:4]}" if series_of(line) in several else line.method, checkpoint)
        for line, checkpoint in zip(lines, checkpoint_names(lines), strict=True)
    ]


def _looks(names: Sequence[Name]) -> dict[Name, Look]:
    methods = list(dict.fromkeys(name.method for name in names))
    checkpoints = list(dict.fromkeys(name.checkpoint for name in names if name.checkpoint != NO_CHECKPOINT))
    styles: dict[str, Any] = {name: STYLES[c % len(STYLES)] for c, name in enumerate(checkpoints)}
    points = {name: (COLOURS[m % len(COLOURS)], MARKERS[m % len(MARKERS)]) for m, name in enumerate(methods)}
    return {name: Look(*points[name.method], styles.get(name.checkpoint, NO_CHECKPOINT_STYLE)) for name in names}


def _draw(axes: Axes, name: Name, intervals: Mapping[float, Interval], look: Look) -> None:
    label = name.method if name.checkpoint == NO_CHECKPOINT else f"{name.method}, {name.checkpoint}"
    x = list(intervals)
    low, mean, high = np.array([(i.low, i.mean, i.high) for i in intervals.values()]).T
    axes.plot(x, mean, **look._asdict(), label=label, lw=1.5, ms=4.5)
    if all(interval.is_shown for interval in intervals.values()):
        axes.fill_between(x, low, high, color=look.color, alpha=0.12, linewidth=0)


def _format_levels(axes: Axes, task: str, levels: Sequence[float]) -> None:
    axes.set_xlabel(scale_of(task).axis)
    logarithmic = levels[0] > 0 and levels[-1] / levels[0] > LOGARITHMIC_SPAN
    if logarithmic:
        axes.set_xscale("log")
    ticks = apart(levels, logarithmic)
    axes.set_xticks(ticks, [f"{level:g}" for level in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def _handles(looks: Mapping[Name, Look]) -> list[Line2D]:
    """Return the entries of the legend: colours and markers of the methods, then styles of the checkpoints."""
    methods = {name.method: look for name, look in looks.items()}
    checkpoints = {name.checkpoint: look for name, look in looks.items() if name.checkpoint != NO_CHECKPOINT}
    solvers = {name.method for name in looks if name.checkpoint != NO_CHECKPOINT}
    entries = [(name, look._replace(linestyle="-") if name in solvers else look) for name, look in methods.items()]
    entries += [(name, look._replace(color="#555555", marker="")) for name, look in checkpoints.items()]
    return [Line2D([], [], **look._asdict(), label=name) for name, look in entries]


def _legend_columns(handles: Sequence[Line2D], width_inches: float) -> int:
    longest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, int(72 * width_inches / (LEGEND_POINTS + LETTER_POINTS * longest)))


def _title(task: str, curves: Curves) -> str:
    numbers = {line.n for curve in curves.values() for line in curve.values()}
    images = f"{max(numbers)} images" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)} images"
    meaning = f"{task}: {OPERATORS[task].meaning}" if task in OPERATORS else task
    return f"{meaning}\nmean and 95 % interval over {images}"
