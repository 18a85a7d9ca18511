"""Error against the level of a task, one line for each method and checkpoint (as figure 2 of ILO, ICML 2021).

Means over images with 95 % bootstrap intervals; several seeds of one image are averaged first, and diverged
reconstructions count with their best finite iterate, as in the tables. The intervals are of each line on its own: two
lines may differ clearly, image by image, though their intervals overlap; the tables have the paired differences.

A method has one colour and marker, and a checkpoint one line style, in all pictures of an evaluation; methods without a
checkpoint are dotted. Where one level has several selections or settings, each is a line of its own.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from rtil.charts import COLOURS, save_chart
from rtil.evaluation.rows import NO_CHECKPOINT, Level, Row
from rtil.evaluation.statistics import Interval, mean_interval
from rtil.inverse.operators import OPERATORS

WIDTH_INCHES = (6.0, 9.0)
"""With one panel, and with two."""
HEIGHT_INCHES, LEGEND_ROW_INCHES = 3.6, 0.22
LEGEND_POINTS, LETTER_POINTS = 45, 5.5
"""Width of an entry of the legend: without its text, and for each letter."""
LOGARITHMIC_SPAN = 8
"""Levels that span more than this factor are drawn on a logarithmic axis."""
LEAST_TICK_SHARE = 0.08
"""Least distance of two labelled levels, as a share of the axis."""
MARKERS = "os^DvPX*<"  # their number and that of the colours have no common divisor
STYLES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
NO_CHECKPOINT_STYLE = ":"
EIGHT_BIT_ERROR = 1 / (12 * 255**2)
"""Squared error of rounding to 8 bits: the axis ends there, so that an exact result does not flatten all others."""
UNITS = {
    "rate": ("observed [%]", 100),
    "factor": ("downsampling factor", 1),
    "sigma": ("standard deviation of the noise [0-255]", 1),
    "width": ("standard deviation of the blur [pixels]", 1),
    "length": ("length of the motion [pixels]", 1),
    "exposures": ("coded masks", 1),
}
"""What the axis of levels says, and what a level is multiplied by, for each parameter of a task."""


class Name(NamedTuple):
    """What a line stands for, in words."""

    method: str
    checkpoint: str


@dataclass(frozen=True)
class Look:
    """How a line is drawn; the style is one of matplotlib's."""

    colour: str
    marker: str
    style: Any


def write_curves(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw ``curves-<task>.png`` for each task with at least two levels; returns the files.

    Args:
        rows: Rows of one evaluation. Those whose level is a mask file, or that have none, are left out.
        folder: Where the pictures go; made if missing.
    """
    paths = []
    for task in dict.fromkeys(row.task for row in rows):
        if len({row.level for row in rows if row.task == task and _has_number(row)}) > 1:
            paths.append(folder / f"curves-{task}.png")
            save_chart(curves_figure(rows, task), paths[-1])
    return paths


def curves_figure(rows: Sequence[Row], task: str) -> Figure:
    """Return the picture of one task: mean squared error per pixel on [0, 1] and, where known, LPIPS.

    Args:
        rows: Rows of one evaluation; its other tasks share colours and styles.
        task: The task to draw; at least one of its rows has a number as its level.
    """
    rows = [row for row in rows if _has_number(row)]
    names = _names(rows)
    looks = _looks(names)
    lines: dict[Name, dict[float, list[Row]]] = {}
    for row, name in zip(rows, names, strict=True):
        if row.task == task:
            lines.setdefault(name, {}).setdefault(_level(row), []).append(row)
    panels = [("mean squared error, pixels in [0, 1]", _squared_error)]
    if any(row.task == task and math.isfinite(row.lpips) for row in rows):
        panels.append(("LPIPS", _lpips))

    handles = _handles({name: looks[name] for name in lines})
    width = WIDTH_INCHES[len(panels) - 1]
    columns = _legend_columns(handles, width)
    height = HEIGHT_INCHES + LEGEND_ROW_INCHES * math.ceil(len(handles) / columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    for k, (label, of) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), k + 1, ylabel=label)
        for name, levels in lines.items():
            _draw(axes, name, {level: _interval(levels[level], of) for level in sorted(levels)}, looks[name])
        _format_levels(axes, task, sorted({level for levels in lines.values() for level in levels}))
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    _format_errors(figure.axes[0])
    figure.suptitle(_title(task, lines.values()), fontsize=10)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return figure


def _has_number(row: Row) -> bool:
    return isinstance(row.level, int | float) and math.isfinite(row.level)


def _level(row: Row) -> float:
    """Return the level in the unit of its axis."""
    return float(row.level or 0) * _unit(row.task)[1]


def _unit(task: str) -> tuple[str, float]:
    parameters = OPERATORS[task].parameters if task in OPERATORS else ()
    parameter = parameters[0] if parameters else "level"
    return UNITS.get(parameter, (parameter, 1))


def _squared_error(row: Row) -> float:
    return float(10 ** (-row.psnr / 10))


def _lpips(row: Row) -> float:
    return row.lpips


def _interval(rows: Sequence[Row], of: Callable[[Row], float]) -> Interval:
    """Return the mean over images, in sorted order, each the mean of its seeds."""
    images: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: (row.image, row.seed)):
        images.setdefault(row.image, []).append(of(row))
    return mean_interval([float(np.mean(seeds)) for seeds in images.values()])


def _names(rows: Sequence[Row]) -> list[Name]:
    """Name each row's line, with selection and settings where these differ within one level."""
    selections: dict[str, set[str]] = {}
    for row in rows:
        selections.setdefault(row.method, set()).add(row.selection)
    settings: dict[tuple[Any, Level], set[str]] = {}
    for row in rows:
        settings.setdefault((_series(row), row.level), set()).add(row.settings)
    several = {series for (series, _), hashes in settings.items() if len(hashes) > 1}

    def name(row: Row) -> Name:
        method = f"{row.method} #{row.settings[:4]}" if _series(row) in several else row.method
        several_selections = len(selections[row.method]) > 1
        return Name(method, f"{row.checkpoint}/{row.selection}" if several_selections else row.checkpoint)

    return [name(row) for row in rows]


def _series(row: Row) -> tuple[str, str, str, str]:
    return row.task, row.method, row.checkpoint, row.selection


def _looks(names: Iterable[Name]) -> dict[Name, Look]:
    names = dict.fromkeys(names)
    methods = list(dict.fromkeys(name.method for name in names))
    checkpoints = list(dict.fromkeys(name.checkpoint for name in names if name.checkpoint != NO_CHECKPOINT))
    looks = {}
    for name in names:
        m = methods.index(name.method)
        style: Any = NO_CHECKPOINT_STYLE
        if name.checkpoint != NO_CHECKPOINT:
            style = STYLES[checkpoints.index(name.checkpoint) % len(STYLES)]
        looks[name] = Look(COLOURS[m % len(COLOURS)], MARKERS[m % len(MARKERS)], style)
    return looks


def _draw(axes: Axes, name: Name, intervals: Mapping[float, Interval], look: Look) -> None:
    label = name.method if name.checkpoint == NO_CHECKPOINT else f"{name.method}, {name.checkpoint}"
    x = list(intervals)
    low, mean, high = np.array([(i.low, i.mean, i.high) for i in intervals.values()]).T
    axes.plot(x, mean, color=look.colour, marker=look.marker, linestyle=look.style, label=label, lw=1.5, ms=4.5)
    axes.fill_between(x, low, high, color=look.colour, alpha=0.12, linewidth=0)


def _format_levels(axes: Axes, task: str, levels: Sequence[float]) -> None:
    axes.set_xlabel(_unit(task)[0])
    logarithmic = levels[0] > 0 and levels[-1] / levels[0] > LOGARITHMIC_SPAN
    if logarithmic:
        axes.set_xscale("log")
    at = np.log(levels) if logarithmic else np.array(levels)
    ticks = [0]
    for k in range(1, len(levels)):
        if at[k] - at[ticks[-1]] >= LEAST_TICK_SHARE * (at[-1] - at[0]):
            ticks.append(k)
    axes.set_xticks([levels[k] for k in ticks], [f"{levels[k]:g}" for k in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def _format_errors(axes: Axes) -> None:
    axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=max(axes.get_ylim()[0], EIGHT_BIT_ERROR))


def _handles(looks: Mapping[Name, Look]) -> list[Line2D]:
    """Return the entries of the legend: colours and markers of the methods, then styles of the checkpoints."""
    methods = {name.method: look for name, look in looks.items()}
    checkpoints = {name.checkpoint: look for name, look in looks.items() if name.checkpoint != NO_CHECKPOINT}
    alone = {name.method for name in looks} - {name.method for name in looks if name.checkpoint != NO_CHECKPOINT}
    return [
        Line2D(
            [],
            [],
            color=look.colour,
            marker=look.marker,
            linestyle=look.style if method in alone else "-",
            label=method,
        )
        for method, look in methods.items()
    ] + [Line2D([], [], color="#555555", linestyle=look.style, label=name) for name, look in checkpoints.items()]


def _legend_columns(handles: Sequence[Line2D], width_inches: float) -> int:
    longest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, int(72 * width_inches / (LEGEND_POINTS + LETTER_POINTS * longest)))


def _title(task: str, lines: Iterable[Mapping[float, Sequence[Row]]]) -> str:
    numbers = {len({row.image for row in rows}) for levels in lines for rows in levels.values()}
    images = f"{max(numbers)} images" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)} images"
    meaning = f"{task}: {OPERATORS[task].meaning}" if task in OPERATORS else task
    return f"{meaning}\nmean and 95 % interval over {images}"
