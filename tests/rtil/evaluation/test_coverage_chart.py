"""The chart of coverage: what it draws, and when there is none."""

from pathlib import Path

import pytest

from rtil.evaluation.coverage_chart import coverage_figure, write_coverage
from rtil.evaluation.rows import Row
from rtil.evaluation.summary import summarise

HELD = (0.3, 0.55, 0.7, 0.8)


def row(method: str, level: float, coverage: tuple[float, ...] = HELD, image: str = "a", scale: float = 1.0) -> Row:
    return Row(
        *(image, method, "cs", level, "rtil", 0, "s"), psnr=20.0, coverage=coverage, spread=0.1, interval_scale=scale
    )


def test_a_panel_for_each_condition_and_a_line_for_each_method() -> None:
    other = (0.4, 0.65, 0.8, 0.9)
    rows = [row("ilo", 0.1), row("ilo", 0.1, other, "b"), row("langevin", 0.1, scale=1.4), row("ilo", 0.05)]
    figure = coverage_figure(summarise(rows))
    assert [axes.get_title() for axes in figure.axes] == ["cs 10 %", "cs 5 %"]
    diagonal, *lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["ilo, rtil", "langevin, rtil, calibrated"]
    assert list(lines[0].get_xdata()) == [50, 80, 90, 95]
    assert list(lines[0].get_ydata()) == pytest.approx([35, 60, 75, 85])
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())


def test_without_intervals_there_is_none(tmp_path: Path) -> None:
    assert write_coverage(summarise([row("ilo", 0.1, ())]), tmp_path) == []
    nothing_to_estimate = (float("nan"),) * 4
    assert write_coverage(summarise([row("ilo", 0.1, nothing_to_estimate)]), tmp_path) == []
    assert write_coverage(summarise([row("ilo", 0.1), row("ilo", 0.1, nothing_to_estimate, "b")]), tmp_path)
