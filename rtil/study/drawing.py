"""Figures of a study, in one style: as vectors (SVG), as pixels (PNG), and their numbers as CSV.

Colours are Okabe and Ito's, which colour-blind readers tell apart; markers, line styles and hatches differ too, so that
a figure printed in grey says the same. A method has one colour and marker and a checkpoint one line style; where there
is only one method, checkpoints have colours. What others published is drawn hollow, thin and grey. Error bars are 95 %
intervals; none below eight pictures.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from rtil.charts import COLOURS, apart, format_errors, format_logarithmic, save_chart
from rtil.evaluation.curves import MARKERS, NO_CHECKPOINT_STYLE, STYLES
from rtil.files import atomic_path
from rtil.study.points import Curve, Panel, Point

PANEL_INCHES = (3.5, 2.9)
MOST_BESIDE = 4
LEGEND_ROW_INCHES = 0.22
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")
GREY = "#666666"


class Look(NamedTuple):
    """How a curve is drawn."""

    colour: str
    marker: str
    style: Any
    hatch: str


def write_figure(title: str, panels: Sequence[Panel], path: Path) -> list[Path]:
    """Write a figure as SVG and PNG, and its numbers as CSV; return the files.

    Args:
        title: Above all panels; "" for none.
        panels: What it shows.
        path: Of the files, without ending.
    """
    figure = draw(title, panels)
    files = [path.with_name(f"{path.name}.{ending}") for ending in ("svg", "png", "csv")]
    for file in files[:2]:
        save_chart(figure, file)
    write_numbers(panels, files[2])
    return files


def draw(title: str, panels: Sequence[Panel]) -> Figure:
    """Return a figure of panels, four beside each other at most."""
    columns = min(len(panels), MOST_BESIDE)
    rows = math.ceil(len(panels) / columns)
    curves = list(dict.fromkeys(curve for panel in panels for curve in panel.curves))
    looks = looks_of(curves)
    width = max(PANEL_INCHES[0] * columns, 4.5)
    beside = max(1, int(width * 72 / (45 + 5.5 * max((len(curve.label) for curve in curves), default=1))))
    legend = LEGEND_ROW_INCHES * math.ceil(len(curves) / beside) + 0.3 * bool(title)
    with mpl.rc_context({"font.size": 9, "hatch.linewidth": 0.5}):
        figure = Figure(figsize=(width, PANEL_INCHES[1] * rows + legend), layout="constrained")
        for number, panel in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, columns, number)
            (_draw_bars if panel.bars else _draw_curves)(axes, panel, looks)
            _label(axes, panel)
        bars = all(panel.bars for panel in panels)
        handles = [_handle(curve, looks[curve], bars and not curve.source) for curve in curves]
        figure.legend(handles=handles, loc="outside lower center", ncols=beside, frameon=False, fontsize=8.5)
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def looks_of(curves: Sequence[Curve]) -> dict[Curve, Look]:
    """Return how each curve is drawn; see the module."""
    own = [curve for curve in curves if not curve.source]
    methods = list(dict.fromkeys(curve.method for curve in own if curve.checkpoint))
    alone = list(dict.fromkeys(curve.method for curve in own if not curve.checkpoint))
    priors = list(dict.fromkeys(curve.checkpoint for curve in curves if curve.checkpoint))
    by_prior = len(methods) == 1
    found = {}
    for curve in curves:
        prior = priors.index(curve.checkpoint) if curve.checkpoint else 0
        number = len(priors if by_prior else methods)
        if curve.method in alone:
            number += alone.index(curve.method)
        elif curve.method in methods:
            number = prior if by_prior else methods.index(curve.method)
        style = STYLES[prior % len(STYLES)] if curve.checkpoint else NO_CHECKPOINT_STYLE
        colour = GREY if curve.source else COLOURS[number % len(COLOURS)]
        found[curve] = Look(colour, MARKERS[number % len(MARKERS)], style, HATCHES[prior % len(HATCHES)])
    return found


def write_numbers(panels: Sequence[Panel], path: Path) -> None:
    """Write every point of a figure to a CSV file, atomically; of intervals that are not drawn too."""
    head = ["panel", "method", "checkpoint", "source", "x", "x_label", "y", "low", "high", "n", "seeds", "y_label"]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        for panel in panels:
            for curve, points in panel.curves.items():
                for point in points:
                    interval = point.interval
                    numbers = [_text(value) for value in (interval.mean, interval.low, interval.high)]
                    name = [panel.title, curve.method, curve.checkpoint, curve.source or "this study"]
                    place = [_text(point.x), panel.ticks.get(point.x, "") if panel.bars else panel.x_label]
                    writer.writerow([*name, *place, *numbers, interval.n, point.seeds, panel.y_label])


def _text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _draw_curves(axes: Axes, panel: Panel, looks: Mapping[Curve, Look]) -> None:
    for curve, points in panel.curves.items():
        look = looks[curve]
        x, y, errors = _numbers(points)
        thin = bool(curve.source)
        drawn: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ls": look.style, "capsize": 2.5}
        drawn |= {"ms": 4 if thin else 4.5, "lw": 0.8 if thin else 1.5, "elinewidth": 0.8, "zorder": 1 if thin else 2}
        drawn |= {"mfc": "white"} if thin else {}
        axes.errorbar(x, y, errors, **drawn, label=curve.label)


def _draw_bars(axes: Axes, panel: Panel, looks: Mapping[Curve, Look]) -> None:
    own = [curve for curve in panel.curves if not curve.source]
    width = 0.84 / max(1, len(own))
    for number, curve in enumerate(own):
        x, y, errors = _numbers(panel.curves[curve])
        look = looks[curve]
        at = x + (number - (len(own) - 1) / 2) * width
        bars: dict[str, Any] = {"color": look.colour, "hatch": look.hatch, "edgecolor": "white", "lw": 0}
        axes.bar(at, y, width, **bars, label=curve.label)
        axes.errorbar(at, y, errors, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
    for curve in [curve for curve in panel.curves if curve.source]:
        x, y, errors = _numbers(panel.curves[curve])
        axes.errorbar(x, y, errors, fmt="_", ms=12, color=GREY, elinewidth=0.8, label=curve.label)
    lows = [p.interval.low if p.interval.is_shown else p.interval.mean for own in panel.curves.values() for p in own]
    if panel.y_label.startswith("PSNR"):  # dB have no zero that bars could stand on
        axes.set_ylim(bottom=max(0.0, min(lows) - 0.5))


def _numbers(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    x, y = np.array([point.x for point in points]), np.array([point.interval.mean for point in points])
    if not any(point.interval.is_shown for point in points):
        return x, y, None
    shown = [(p.interval.low, p.interval.high) if p.interval.is_shown else (p.interval.mean,) * 2 for p in points]
    ends = np.array(shown)
    return x, y, np.maximum(np.abs(ends.T - y), 0)


def _label(axes: Axes, panel: Panel) -> None:
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.title.set_fontsize(9.5)
    if "x" in panel.logarithmic:
        axes.set_xscale("log")
    if "y" in panel.logarithmic:
        format_errors(axes)
    if panel.ticks:
        ticks = list(panel.ticks) if panel.bars else apart(sorted(panel.ticks), "x" in panel.logarithmic)
        axes.set_xticks(ticks, [panel.ticks[tick] for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    elif "x" in panel.logarithmic:
        format_logarithmic(axes.xaxis)
    axes.grid(axis="y" if panel.bars else "both", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _handle(curve: Curve, look: Look, bar: bool) -> Line2D | Patch:
    if bar:
        return Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="white", lw=0, label=curve.label)
    face: dict[str, Any] = {"mfc": "white"} if curve.source else {}
    return Line2D([], [], color=look.colour, marker=look.marker, ls=look.style, ms=4.5, label=curve.label, **face)
