import numpy as np

from docs.theory import __main__ as command
from docs.theory.chart import Series, chart


def test_prints_its_tables_and_writes_its_figures(tmp_path, monkeypatch, capsys):
    for name, value in {"SAMPLES": 500, "DRAWS": 5, "RESOLUTION": 8, "PAIRS": 2, "OPERATORS": 3}.items():
        monkeypatch.setattr(command, name, value)
    command.report(tmp_path)
    printed = capsys.readouterr().out
    assert "| rtil | zero |" in printed
    assert "differences of faces, n = 192" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"linear.png", "distances.png"}


def test_a_line_that_leaves_the_axis_is_drawn_at_its_edge():
    figure = chart([Series("a", [1, 5, 10], [0.1, 3, 1000], "#ff0000")], "title", [1, 10], [1, 10, 100])
    (axes,) = figure.axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 1], [5, 3], [10, 100]])
    assert axes.get_ylim() == (1, 100)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1", "10", "100"]


def test_intervals_are_drawn_from_low_to_high_about_their_dots():
    one = Series("a", [1, 10], [3, 4], "#ff0000", low=[2, 3], high=[5, 2000])
    (axes,) = chart([one], "", [1, 10], [1, 10, 100]).axes
    (bars,) = axes.collections
    np.testing.assert_allclose(bars.get_segments(), [[[1, 2], [1, 5]], [[10, 3], [10, 100]]])
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 3], [10, 4]])
