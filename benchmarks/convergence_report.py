"""What :mod:`benchmarks.convergence` found: a table, a CSV file and a chart."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.frame import print_table
from rtil.files import atomic_path

PANEL_INCHES = (6.4, 4.8)


class Point(NamedTuple):
    """One look at a run: its round, its steps so far, its seconds so far and the mean squared error, in [0, 1]."""

    round: int
    step: int
    seconds: float
    mse: float


class Curve(NamedTuple):
    """One run.

    Attributes:
        checkpoint: Name of the prior.
        method: ``ilo`` or ``csgm``.
        steps: Of each round.
        points: In the order of time, all looks.
        rounds: What each round returned, with the time of its last step.
    """

    checkpoint: str
    method: str
    steps: tuple[int, ...]
    points: list[Point]
    rounds: list[Point]

    def label(self, rounds: int | None = None) -> str:
        """Return the run's name, up to a round: ``ilo 4 x 300``, ``csgm 1000``."""
        return self.method + (f" {rounds or len(self.steps)} x" if self.method == "ilo" else "") + f" {self.steps[0]}"

    def reached(self, mse: float, rounds: int) -> Point | None:
        """Return the first look, or returned pictures, of the first rounds with at most this error, or None."""
        in_time = sorted([*self.points, *self.rounds], key=lambda p: p.step)
        return next((p for p in in_time if p.round < rounds and p.mse <= mse), None)


def summary(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Return a row for each CSGM and for each number of ILO's rounds.

    ``mse`` is of the returned pictures, ``seconds`` the time of the last step; ``seconds_to_csgm`` is when the current
    iterates first were as good as what the checkpoint's longest CSGM returned, None if never.
    """
    rows = []
    for curve in curves:
        csgm = [c for c in curves if c.checkpoint == curve.checkpoint and c.method == "csgm"]
        reference = max(csgm, key=lambda c: c.steps[0]).rounds[-1]
        for count, end in enumerate(curve.rounds, start=1):
            reached = curve.reached(reference.mse, count)
            rows.append(
                {
                    "checkpoint": curve.checkpoint,
                    "run": curve.label(count),
                    "mse": significant(end.mse),
                    "psnr_of_mse": None if end.mse <= 0 else round(-10 * math.log10(end.mse), 2),
                    "seconds": significant(end.seconds),
                    "seconds_to_csgm": None if reached is None else significant(reached.seconds),
                    "steps_to_csgm": None if reached is None else reached.step,
                    "csgm_seconds": significant(reference.seconds),
                }
            )
    return rows


def significant(value: float) -> float:
    """Return a value to four digits."""
    return float(f"{value:.4g}")


def print_summary(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table."""
    cells = []
    for row in rows:
        reached = row["seconds_to_csgm"]
        times = "never" if reached is None else f"{reached:.3g} s, {row['steps_to_csgm']} steps"
        sooner = "-" if not reached else f"{row['csgm_seconds'] / reached:.1f}"
        cells.append(
            [f"{row['checkpoint']}, {row['run']}", f"{row['mse']:.3g}", f"{row['seconds']:.3g}", times, sooner]
        )
    print_table(["", "mse", "seconds", "reaches CSGM's last error after", "times sooner"], cells)


def write_curves(curves: Sequence[Curve], path: Path) -> None:
    """Write every look as a row of a CSV file; rows of what a round returned have ``returned`` 1."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["checkpoint", "run", *Point._fields, "returned"])
        for curve in curves:
            for returned, points in enumerate((curve.points, curve.rounds)):
                writer.writerows([curve.checkpoint, curve.label(), *point, returned] for point in points)


def draw(curves: Sequence[Curve], path: Path, title: str) -> None:
    """Write the chart: a panel for each checkpoint, both axes logarithmic, a dot where a round returns its pictures."""
    from matplotlib.figure import Figure

    from rtil.charts import COLOURS, save_chart

    names = list(dict.fromkeys(curve.checkpoint for curve in curves))
    figure = Figure(figsize=(PANEL_INCHES[0] * len(names), PANEL_INCHES[1]), layout="constrained")
    panels = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        own = [curve for curve in curves if curve.checkpoint == name]
        for index, curve in enumerate(own):
            colour = COLOURS[index % len(COLOURS)]
            style = "--" if curve.method == "csgm" else "-"
            x, y = [p.seconds for p in curve.points], [p.mse for p in curve.points]
            panel.plot(x, y, style, color=colour, linewidth=1.2, label=curve.label())
            panel.plot(
                [p.seconds for p in curve.rounds], [p.mse for p in curve.rounds], "o", color=colour, markersize=4
            )
        panel.set(xscale="log", yscale="log", xlabel="seconds", title=f"{name}: {title}")
        panel.grid(visible=True, which="both", linewidth=0.3)
        panel.legend(fontsize="small")
    panels[0].set_ylabel("mean squared error of the current iterate, pictures in [0, 1]")
    save_chart(figure, path)
