import math

from rtil.evaluation.overview import markdown_overview, overviews, terminal_overview
from rtil.evaluation.rows import Row


def rows(level, method="ilo", checkpoint="vanilla", psnr=20.0, task="inpaint"):
    return [Row(f"{i}.png", method, task, level, checkpoint, 0, "aaaa", psnr + i, 0.8, math.nan, 1.0) for i in range(2)]


def test_one_line_for_each_series_and_one_column_for_each_level():
    some = [*rows(0.5), *rows(0.1, psnr=15.0), *rows("box"), *rows(0.5, "csgm", psnr=24.0), *rows(0.1, "tv", "-")]
    (table,) = overviews(some)
    assert (table.task, table.levels) == ("inpaint", [0.1, 0.5, "box"])
    lines = dict(table.lines)
    assert lines["ilo", "vanilla"] == [15.5, 20.5, 20.5]
    assert [value == value for value in lines["csgm", "vanilla"]] == [False, True, False]
    assert [value == value for value in lines["tv", "-"]] == [True, False, False]


def test_tables_show_the_numbers_and_the_best_of_each_level():
    some = [*rows(0.5), *rows(0.1, psnr=15.0), *rows(0.5, "csgm", psnr=24.0)]
    assert markdown_overview(some).splitlines() == [
        "| inpaint, mean PSNR in dB | checkpoint | 10 % | 50 % |",
        "| --- | --- | ---: | ---: |",
        "| ilo | vanilla | **15.50** | 20.50 |",
        "| csgm | vanilla | n/a | **24.50** |",
    ]
    assert terminal_overview(some).splitlines() == [
        "-- inpaint, mean PSNR in dB --",
        "method  checkpoint   10 %   50 %",
        "ilo     vanilla     15.50  20.50",
        "csgm    vanilla       n/a  24.50",
    ]


def test_one_level_needs_no_overview():
    assert markdown_overview(rows(0.5)) == terminal_overview(rows(0.5)) == markdown_overview([]) == ""
    assert len(overviews([*rows(0.5), *rows(0.1), *rows(2, task="sr"), *rows(4, task="sr")])) == 2
