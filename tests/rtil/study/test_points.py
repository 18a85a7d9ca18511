"""What figures show: the numbers of the summary, at their places, and files of them."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rtil.evaluation.statistics import mean_interval
from rtil.evaluation.summary import summarise
from rtil.study.drawing import draw, looks_of, write_figure
from rtil.study.points import Curve, panels_of
from rtil.study.published import FILE, published
from rtil.study.results import Result
from rtil.study.runs import Candidate
from rtil.study.specification import FigureSpec
from rtil.study.tuning import Choice, Trial
from tests.rtil.evaluation.rows import of_reference, of_solver


def result(images: int = 12, **changes: Any) -> Result:
    rows = [
        row
        for level in (0.05, 0.1, 0.5)
        for method in ("ilo", "csgm")
        for row in of_solver(level=level, method=method, images=images, **changes)
    ]
    rows += of_reference(level=0.1, images=images)
    return Result(rows, summarise(rows), [])


def test_a_curve_has_the_summarys_means_and_intervals_at_its_levels() -> None:
    found = result()
    (panel,) = panels_of(FigureSpec("levels_curve", published="rtil_figure4"), {"a": found}, [])
    own = [line for line in found.summary.lines if (line.method, line.checkpoint) == ("ilo", "rtil")]
    points = panel.curves[Curve("ilo", "rtil")]
    assert [point.x for point in points] == [5, 10, 50]
    assert [point.interval for point in points] == [line.psnr for line in own]
    paper = panel.curves[Curve("ilo", "rtil", "published, 256 px")]
    assert [(p.x, p.interval.mean) for p in paper] == [(1, 24.06), (5, 29.83), (10, 33.13), (15, 35.01), (25, 37.61)]
    assert paper[0].interval.high - paper[0].interval.mean == pytest.approx(0.46)
    assert panel.logarithmic == "x"


def test_only_the_lines_that_are_asked_for() -> None:
    figure = FigureSpec("ablation_bars", metrics=("psnr", "lpips"), lines=("ilo rtil", "csgm vanilla"))
    panels = panels_of(figure, {"a": result(), "b": result(task="inpaint")}, [])
    assert [(panel.title, panel.y_label) for panel in panels] == [
        ("cs", "PSNR [dB]"), ("inpaint", "PSNR [dB]"), ("cs", "LPIPS"), ("inpaint", "LPIPS")]  # fmt: skip
    assert {(c.method, c.checkpoint) for p in panels for c in p.curves} == {("ilo", "rtil"), ("csgm", "vanilla")}
    assert panels[0].ticks == {0.0: "5 %", 1.0: "10 %", 2.0: "50 %"}


def test_rounds_have_the_mean_after_each_and_seeds_are_a_level() -> None:
    found = result(seeds=(0, 1, 2))
    panels = panels_of(FigureSpec("rounds", lines=("ilo vanilla",)), {"a": found}, [])
    assert [panel.title for panel in panels] == ["cs 5 %", "cs 10 %", "cs 50 %"]
    rows = [r for r in found.rows if (r.method, r.checkpoint, r.level) == ("ilo", "vanilla", 0.1)]
    second = panels[1].curves[Curve("ilo", "vanilla")][1]
    table = [[r.psnr_round[1] for r in sorted(rows, key=lambda r: r.image) if r.seed == seed] for seed in (0, 1, 2)]
    assert (second.x, second.interval, second.seeds) == (2, mean_interval(table), 3)


def test_methods_of_one_curve_are_joined_by_seconds() -> None:
    rows = of_solver(method="ilo-2", seconds=4.0) + of_solver(method="ilo-1", seconds=2.0)
    found = Result(rows, summarise(rows), [])
    figure = FigureSpec("error_vs_seconds", metrics=("squared_error",), curves={"ILO": ("ilo-1", "ilo-2")})
    (panel,) = panels_of(figure, {"a": found}, [])
    assert [point.x for point in panel.curves[Curve("ILO", "rtil")]] == [2, 4]
    assert panel.logarithmic == "xy"


def test_a_trace_never_falls() -> None:
    trials = [Trial(number, "tpe", {}, psnr, 4, 1.0) for number, psnr in enumerate((20.0, 19.0, 22.0))]
    choice = Choice(Candidate("a", "ilo", "rtil", None), trials)
    (panel,) = panels_of(FigureSpec("tuning_trace"), {"a": result()}, [choice])
    assert [point.interval.mean for point in panel.curves[Curve("ilo", "rtil")]] == [20, 20, 22]


def test_curves_differ_without_colour() -> None:
    names = [Curve(method, prior) for method in ("ilo", "csgm", "pulse") for prior in ("vanilla", "rtil")]
    looks = looks_of([*names, Curve("linear")])
    assert len({(look.marker, str(look.style)) for look in looks.values()}) == len(looks)
    assert len({look.hatch for look in (looks[names[0]], looks[names[1]])}) == 2
    one = looks_of([Curve("ilo", "vanilla"), Curve("ilo", "rtil"), Curve("linear")])
    assert len({look.colour for look in one.values()}) == len({look.marker for look in one.values()}) == 3


@pytest.mark.parametrize("kind", ["levels_curve", "ablation_bars", "rounds", "error_vs_seconds"])
def test_files_are_equal_for_equal_figures_and_hold_every_number(kind: Any, tmp_path: Path) -> None:
    panels = panels_of(FigureSpec(kind), {"a": result()}, [])
    first, second = (write_figure("A figure", panels, tmp_path / name / "f") for name in "ab")
    assert [path.suffix for path in first] == [".svg", ".png", ".csv"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"<svg" in first[0].read_bytes()
    with Image.open(first[1]) as picture:
        assert picture.width > 400
    with first[2].open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(len(points) for panel in panels for points in panel.curves.values())
    point = panels[0].curves[Curve("ilo", "rtil")][0]
    own = (panels[0].title, "ilo", "rtil", f"{point.x:.6g}")
    line = next(one for one in lines if (one["panel"], one["method"], one["checkpoint"], one["x"]) == own)
    assert float(line["y"]) == pytest.approx(point.interval.mean, rel=1e-5)
    assert float(line["low"]) == pytest.approx(point.interval.low, rel=1e-5)


def test_error_bars_are_the_intervals_and_few_pictures_have_none() -> None:
    def ends(images: int) -> list[Any]:
        panels = panels_of(FigureSpec("levels_curve", lines=("ilo rtil",)), {"a": result(images)}, [])
        (container,) = draw("", panels).axes[0].containers
        return [panels[0].curves[Curve("ilo", "rtil")], *container.lines[2]]

    points, bars = ends(12)
    expected = [[[p.x, p.interval.low], [p.x, p.interval.high]] for p in points]
    np.testing.assert_allclose(bars.get_segments(), expected)
    assert len(ends(7)) == 1


def test_published_numbers_have_a_source() -> None:
    text = FILE.read_text(encoding="utf-8").splitlines()
    with FILE.open(newline="", encoding="utf-8") as file:
        exhibits = {line["exhibit"] for line in csv.DictReader(file)}
    found = [one for exhibit in exhibits for one in published(exhibit)]
    assert len(found) == len(text) - 1
    assert all(one.source and one.side_px in (256, 1024) and math.isfinite(one.value) for one in found)
    assert published("no_such") == []
