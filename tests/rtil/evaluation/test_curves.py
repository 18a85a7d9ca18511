import dataclasses
import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from rtil.evaluation import curves, statistics
from rtil.evaluation.rows import Row
from rtil.evaluation.statistics import mean_interval
from rtil.evaluation.summary import summarise

RATES = (0.01, 0.05, 0.25)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 200)


def rows(task="cs", levels=RATES, methods=("csgm", "ilo"), checkpoints=("vanilla", "rtil"), images=6, **changes):
    rng = np.random.default_rng(0)
    some = [
        Row(f"{i}.png", method, task, level, checkpoint, 0, "aaaa", rng.normal(20, 3), 0.8, 0.3, 1.0)
        for method in methods
        for checkpoint in checkpoints
        for level in levels
        for i in range(images)
    ]
    return [dataclasses.replace(row, **changes) for row in some]


def curves_figure(some, task):
    return curves.curves_figure(summarise(some), task)


def write_curves(some, folder):
    return curves.write_curves(summarise(some), folder)


def lines(figure, panel=0):
    return {line.get_label(): line for line in figure.axes[panel].lines}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_line_for_each_method_and_checkpoint_at_the_mean_error_of_each_level():
    some = rows()
    drawn = lines(curves_figure(some, "cs"))
    assert list(drawn) == ["csgm, vanilla", "csgm, rtil", "ilo, vanilla", "ilo, rtil"]
    x, y = drawn["ilo, rtil"].get_data()
    np.testing.assert_allclose(x, [1, 5, 25])  # per cent
    own = [row for row in some if (row.method, row.checkpoint) == ("ilo", "rtil")]
    errors = [[1 / 10 ** (row.psnr / 10) for row in own if row.level == level] for level in RATES]
    np.testing.assert_allclose(y, np.mean(errors, axis=1))


def test_the_band_is_the_interval_over_images():
    some = rows(methods=("ilo",), checkpoints=("vanilla",), images=8)
    (band,) = curves_figure(some, "cs").axes[0].collections
    for level in RATES:
        interval = mean_interval([10 ** (-row.psnr / 10) for row in some if row.level == level])
        ends = band.get_paths()[0].vertices
        found = ends[np.isclose(ends[:, 0], 100 * level), 1]
        np.testing.assert_allclose([found.min(), found.max()], [interval.low, interval.high])


def test_few_images_have_no_band():
    assert not curves_figure(rows(methods=("ilo",), images=7), "cs").axes[0].collections


def test_seeds_of_one_image_are_averaged_first():
    one = rows(methods=("ilo",), checkpoints=("vanilla",), images=2, psnr=20.0)
    again = [dataclasses.replace(row, seed=1, psnr=10.0) for row in one if row.image == "0.png"]
    line = lines(curves_figure(one + again, "cs"))["ilo, vanilla"]
    np.testing.assert_allclose(line.get_ydata(), (0.055 + 0.01) / 2)


def test_diverged_rows_count_and_values_that_are_not_finite_do_not():
    some = rows(methods=("ilo",), checkpoints=("vanilla",), images=3, psnr=20.0)
    changed = {"0.png": {"psnr": 10.0, "status": "diverged"}, "1.png": {"psnr": math.nan}}
    some = [dataclasses.replace(row, **changed.get(row.image, {})) for row in some]
    np.testing.assert_allclose(lines(curves_figure(some, "cs"))["ilo, vanilla"].get_ydata(), (0.1 + 0.01) / 2)


def test_lpips_has_a_panel_of_its_own_where_it_is_known():
    assert len(curves_figure(rows(lpips=math.nan), "cs").axes) == 1
    figure = curves_figure(rows(), "cs")
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    np.testing.assert_allclose(lines(figure, 1)["ilo, rtil"].get_ydata(), 0.3)


@pytest.mark.parametrize(
    ("task", "levels", "scale", "label"),
    [
        ("denoise", (5, 25, 256), "log", "standard deviation of the noise [0-255]"),
        ("sr", (2, 4, 8), "linear", "downsampling factor"),
        ("inpaint", (0.05, 0.5, 1.0), "log", "observed [%]"),
        ("denoise", (0, 5, 50), "linear", "standard deviation of the noise [0-255]"),
        ("unheard of", (1, 2), "linear", "level"),
    ],
)
def test_the_axis_of_levels_fits_the_task(task, levels, scale, label):
    axes = curves_figure(rows(task, levels, images=2), task).axes[0]
    assert axes.get_xscale() == scale
    assert axes.get_xlabel() == label


def test_labels_of_levels_keep_their_distance():
    levels = (5, 25, 30, 100, 105, 256)
    axes = curves_figure(rows("denoise", levels, images=2), "denoise").axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["5", "25", "100", "256"]
    assert list(lines(axes.figure)["ilo, rtil"].get_xdata()) == list(levels)


def test_colour_tells_the_method_and_style_the_checkpoint_in_all_pictures():
    some = rows("sr", (2, 4), ("ilo",)) + rows("cs") + rows("cs", RATES, ("linear",), ("-",))
    drawn = lines(curves_figure(some, "cs"))
    assert [drawn[f"ilo, {name}"].get_linestyle() for name in ("vanilla", "rtil")] == ["-", "--"]
    assert drawn["ilo, rtil"].get_color() == drawn["ilo, vanilla"].get_color() != drawn["csgm, rtil"].get_color()
    assert drawn["linear"].get_linestyle() == ":"
    other = lines(curves_figure(some, "sr"))
    assert other["ilo, rtil"].get_color() == drawn["ilo, rtil"].get_color()
    assert legend(curves_figure(some, "cs")) == ["ilo", "csgm", "linear", "vanilla", "rtil"]


def test_a_variant_may_be_called_as_a_checkpoint_is():
    assert legend(curves_figure(rows(methods=("rtil",)), "cs")) == ["rtil", "vanilla", "rtil"]


def test_many_methods_are_all_told_apart():
    methods = [f"method {k}" for k in range(20)]
    drawn = lines(curves_figure(rows(methods=methods, checkpoints=("vanilla",), images=1), "cs"))
    assert len({(to_rgb(line.get_color()), line.get_marker()) for line in drawn.values()}) == 20


def test_selections_and_settings_of_one_level_are_lines_of_their_own():
    some = rows(methods=("ilo",), checkpoints=("vanilla",))
    other = [dataclasses.replace(row, settings="bbbb") for row in some]
    assert list(lines(curves_figure(some + other, "cs"))) == ["ilo #aaaa, vanilla", "ilo #bbbb, vanilla"]
    other = [dataclasses.replace(row, selection="last") for row in some]
    assert list(lines(curves_figure(some + other, "cs"))) == ["ilo, vanilla/-", "ilo, vanilla/last"]


def test_settings_that_go_with_the_level_are_one_line():
    some = rows(methods=("ilo",), checkpoints=("vanilla",))
    some = [dataclasses.replace(row, settings=str(row.level)) for row in some]
    assert len(lines(curves_figure(some, "cs"))["ilo, vanilla"].get_xdata()) == 3


def test_title_counts_the_images():
    assert curves_figure(rows(images=6), "cs").get_suptitle().endswith("over 6 images")
    part = [row for row in rows(images=6) if row.level > 0.01 or row.image == "0.png"]
    assert curves_figure(part, "cs").get_suptitle().endswith("over 1 to 6 images")


def test_the_legend_covers_no_line_and_lies_in_the_picture():
    names = [f"a method with a long name {k}" for k in range(12)]
    for lpips in (0.3, math.nan):
        figure = curves_figure(rows(methods=names, images=1, lpips=lpips), "cs")
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert box.y0 >= 0
        assert box.y1 <= min(axes.get_tightbbox().y0 for axes in figure.axes)


def test_tasks_with_one_level_or_none_have_no_picture(tmp_path):
    some = rows("cs") + rows("sr", (4,)) + rows("colorize", (None,)) + rows("inpaint", (0.5, "mask.png"))
    assert write_curves(some, tmp_path / "new") == [tmp_path / "new" / "curves-cs.png"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["curves-cs.png"]
    assert write_curves([], tmp_path) == []


def test_a_mask_file_is_left_out_of_a_picture_of_rates():
    figure = curves_figure(rows("inpaint", (0.1, 0.5, "mask.png")), "inpaint")
    assert len(lines(figure)["ilo, rtil"].get_xdata()) == 2


def test_perfect_reconstructions_are_left_out_of_the_logarithmic_axis(tmp_path):
    (path,) = write_curves(rows(psnr=math.inf) + rows(methods=("pulse",)), tmp_path)
    assert path.is_file()


def test_the_same_rows_give_the_same_file_without_metadata(tmp_path):
    (first,), (second,) = (write_curves(rows(), tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert set(picture.info) <= {"dpi"}


def test_an_exact_result_does_not_flatten_the_others():
    exact = [dataclasses.replace(row, psnr=150.0) for row in rows(methods=("linear",), checkpoints=("-",))]
    low, high = curves_figure(rows() + exact, "cs").axes[0].get_ylim()
    assert low == pytest.approx(1 / (12 * 255**2))
    assert high > 0.01
