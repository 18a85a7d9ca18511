import math

import pytest

from rtil.evaluation.summary import summarise
from rtil.report.charts import charts_of, looks_of
from tests.rtil.evaluation.rows import of_reference, of_solver


def charts(rows):
    return charts_of(summarise(rows).lines)


def test_higher_means_are_drawn_higher_within_their_intervals():
    levels, gains = charts([row for level in (0.1, 0.2) for row in of_solver(level=level)])
    vanilla, rtil = levels.series
    for one, other in zip(vanilla.points, rtil.points, strict=True):
        assert other.y < one.y  # rtil has 1.5 dB more
        assert one.high < one.y < one.low
    assert levels.top <= min(p.high for p in rtil.points)
    assert max(p.low for p in vanilla.points) <= levels.bottom
    assert all(gains.zero < point.low < point.x < point.high for point in gains.series[0].points)


def test_distances_are_as_on_the_axis():
    levels, _ = charts(of_solver(level=0.1) + of_solver(level=0.2))
    one, two = levels.y_ticks[:2]
    vanilla, rtil = ([point.y for point in series.points] for series in levels.series)
    db_per_pixel = (float(two.text) - float(one.text)) / (two.at - one.at)
    means = {line.checkpoint: line.psnr.mean for line in summarise(of_solver()).lines}
    assert (rtil[0] - vanilla[0]) * db_per_pixel == pytest.approx(means["rtil"] - means["vanilla"])


@pytest.mark.parametrize(("levels", "ratio"), [((0.1, 0.2, 0.4), 2.0), ((0.02, 0.2, 2.0), 1.0)])
def test_levels_that_span_much_have_a_logarithmic_axis(levels, ratio):
    chart, *_ = charts([row for level in levels for row in of_solver(level=level)])
    first, second, third = (point.x for point in chart.series[0].points)
    assert (third - second) / (second - first) == pytest.approx(ratio)


def test_one_level_has_no_curve_and_few_pictures_no_interval():
    (gains,) = charts(of_solver(images=5))
    assert gains.kind == "gains"
    assert gains.series[0].points[0].low is None
    assert charts(of_solver(("vanilla",))) == []
    assert charts(of_solver(("vanilla",), psnr=math.nan)) == []


def test_a_method_looks_the_same_in_all_charts():
    rows = [row for level in (0.1, 0.2) for row in [*of_solver(level=level), *of_reference(level=level)]]
    looks = looks_of(summarise(rows).lines)
    found = charts(rows)
    assert {series.name: series.look for chart in found for series in chart.series}.items() <= looks.items()
    assert all(name in found[0].alt for name in looks)
