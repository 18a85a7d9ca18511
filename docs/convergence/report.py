"""What :mod:`docs.convergence.measure` found: a table and a chart."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.frame import print_table

PANEL_INCHES = (6.4, 4.8)
PANELS = {
    "mse": "mean squared error of the current iterate, pictures in [0, 1]",
    "lpips": "LPIPS of the current iterate",
}


class Point(NamedTuple):
    """One look at a run.

    Attributes:
        round: Its round.
        step: Its steps so far, of all rounds.
        seconds: So far.
        mse: Mean squared error, pictures in [0, 1].
        lpips: None where the weights are missing.
    """

    round: int
    step: int
    seconds: float
    mse: float
    lpips: float | None = None


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

    @property
    def label(self) -> str:
        """The run's name."""
        return run_name(self.method, self.steps)

    def reached(self, mse: float, rounds: int) -> Point | None:
        """Return the first look, or returned pictures, of the first rounds with at most this error, or None."""
        in_time = sorted([*self.points, *self.rounds], key=lambda p: p.step)
        return next((p for p in in_time if p.round < rounds and p.mse <= mse), None)


def run_name(method: str, steps: Sequence[int]) -> str:
    """Return a run's name.

    Example:
        >>> run_name("ilo", (300, 300)), run_name("csgm", (1000,))
        ('ilo 2 x 300', 'csgm 1000')
    """
    return f"{method} {len(steps)} x {steps[0]}" if method == "ilo" else f"{method} {steps[0]}"


def summary(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Return a row for each CSGM and for each number of ILO's rounds.

    ``mse`` and ``lpips``, left out if there is none, are of the returned pictures, ``seconds`` the time of the last
    step; ``seconds_to_csgm`` is when the current iterates first had the mean squared error of what the checkpoint's
    longest CSGM returned, None if never.
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
                    "run": run_name(curve.method, curve.steps[:count]),
                    "mse": significant(end.mse),
                    **({} if end.lpips is None else {"lpips": significant(end.lpips)}),
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
        errors = [f"{row[name]:.3g}" for name in PANELS if name in row]
        cells.append([f"{row['checkpoint']}, {row['run']}", *errors, f"{row['seconds']:.3g}", times, sooner])
    errors = [name for name in PANELS if name in rows[0]]
    print_table(["", *errors, "seconds", "reaches CSGM's last mse after", "times sooner"], cells)


def draw(curves: Sequence[Curve], path: Path, title: str) -> None:
    """Write the chart: a column for each checkpoint, a row for each kind of error, both axes logarithmic.

    A dot is where a round returns its pictures.
    """
    from matplotlib.figure import Figure

    from rtil.charts import COLOURS, save_chart

    names = list(dict.fromkeys(curve.checkpoint for curve in curves))
    errors = [error for error in PANELS if all(getattr(p, error) is not None for c in curves for p in c.points)]
    size = (PANEL_INCHES[0] * len(names), PANEL_INCHES[1] * len(errors))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(errors), len(names), sharex=True, sharey="row", squeeze=False)
    for row, error in zip(panels, errors, strict=True):
        for panel, name in zip(row, names, strict=True):
            own = [curve for curve in curves if curve.checkpoint == name]
            for index, curve in enumerate(own):
                colour = COLOURS[index % len(COLOURS)]
                style = "--" if curve.method == "csgm" else "-"
                panel.plot(*_columns(curve.points, error), style, color=colour, linewidth=1.2, label=curve.label)
                panel.plot(*_columns(curve.rounds, error), "o", color=colour, markersize=4)
            panel.set(xscale="log", yscale="log", xlabel="seconds", title=f"{name}: {title}")
            panel.grid(visible=True, which="both", linewidth=0.3)
            panel.legend(fontsize="small")
        row[0].set_ylabel(PANELS[error])
    save_chart(figure, path)


def _columns(points: Sequence[Point], error: str) -> tuple[list[float], list[float]]:
    return [p.seconds for p in points], [getattr(p, error) for p in points]
