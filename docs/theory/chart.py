"""A small chart: lines or intervals over logarithmic axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rtil.charts import save_chart

WIDTH_INCHES, HEIGHT_INCHES = 6.4, 4.0


@dataclass(frozen=True)
class Series:
    """One line, or with ``low`` and ``high`` one interval for each x with a dot at y.

    Attributes:
        label: Text of the legend.
        x: Positions, > 0.
        y: Values, > 0.
        colour: A matplotlib colour.
        low: Lower ends of the intervals.
        high: Upper ends of the intervals.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def draw_chart(
    path: str | Path, series: Sequence[Series], title: str, x_ticks: Sequence[float], y_ticks: Sequence[float]
) -> None:
    """Write :func:`chart` to a PNG file, atomically."""
    save_chart(chart(series, title, x_ticks, y_ticks), path)


def chart(series: Sequence[Series], title: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Figure:
    """Return a chart with two logarithmic axes that span their ticks; values outside are drawn at the edge.

    Args:
        series: What to draw, in the order of the legend.
        title: Text above the chart.
        x_ticks: Labelled positions, ascending; the axis has a margin around them.
        y_ticks: Labelled values, ascending; first and last are the edges.
    """
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    axes = figure.add_subplot()
    edges = (y_ticks[0], y_ticks[-1])
    for one in series:
        y = np.clip(one.y, *edges)
        if one.low:
            ends = np.abs(np.clip([one.low, one.high], *edges) - y)
            axes.errorbar(one.x, y, ends, fmt="o", color=one.colour, label=one.label, capsize=4)
        else:
            axes.plot(one.x, y, color=one.colour, label=one.label, linewidth=2, clip_on=False, zorder=3)
    axes.set(xscale="log", yscale="log", xticks=x_ticks, yticks=y_ticks)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    margin = (x_ticks[-1] / x_ticks[0]) ** 0.08
    axes.set(xlim=(x_ticks[0] / margin, x_ticks[-1] * margin), ylim=edges)
    axes.grid(axis="y", color="#dddddd")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=10)
    figure.legend(loc="outside lower left", ncols=len(series), frameon=False)
    return figure
