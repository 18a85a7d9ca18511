"""How often intervals hold the truth, against how often they should: on the diagonal they are right.

One panel for each condition, one line for each method and checkpoint whose results are means of several attempts; above
the diagonal intervals are too wide, below it too narrow. Calibrated are those that were widened (``--calibration``).
"""

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rtil.charts import COLOURS, save_chart
from rtil.evaluation.curves import MARKERS
from rtil.evaluation.summary import Line, Summary
from rtil.inverse.intervals import LEVELS

PANEL_INCHES = 3.4
MOST_COLUMNS = 3
LEGEND_ROW_INCHES = 0.22


def write_coverage(summary: Summary, folder: Path) -> list[Path]:
    """Write ``coverage.png`` if there is anything to draw.

    Args:
        summary: Of one evaluation.
        folder: Where the picture goes.
    """
    if not any(line.coverage for line in summary.lines):
        return []
    path = folder / "coverage.png"
    save_chart(coverage_figure(summary), path)
    return [path]


def coverage_figure(summary: Summary) -> Figure:
    """Return the picture of a summary some of whose lines have intervals."""
    lines = [line for line in summary.lines if line.coverage]
    conditions = list(dict.fromkeys(line.condition for line in lines))
    names = list(dict.fromkeys(map(_name, lines)))
    columns = min(MOST_COLUMNS, len(conditions))
    rows = math.ceil(len(conditions) / columns)
    size = (PANEL_INCHES * max(columns, 1.5), PANEL_INCHES * rows + LEGEND_ROW_INCHES * (len(names) + 1))
    figure = Figure(figsize=size, layout="constrained")
    percent = [100 * level for level in LEVELS]
    for k, condition in enumerate(conditions):
        axes = figure.add_subplot(rows, columns, k + 1, title=condition, xlabel="interval, %")
        axes.plot([0, 100], [0, 100], color="#999999", lw=0.8)
        for line in (line for line in lines if line.condition == condition):
            number = names.index(_name(line))
            look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            axes.plot(percent, [100 * share for share in line.coverage], label=_name(line), lw=1.5, ms=4.5, **look)
        axes.set(xlim=(40, 100), ylim=(0, 100), xticks=percent)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("pixels that it holds, %")
    handles = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels())}  # noqa: B905
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", frameon=False, fontsize=9)
    return figure


def _name(line: Line) -> str:
    return f"{line.method}, {line.label}{', calibrated' * (line.interval_scale != 1)}"
