import csv
import dataclasses
import math

import pytest

from rtil.evaluation.report import markdown, terminal, write_csv
from rtil.evaluation.rows import Row
from rtil.evaluation.summary import summarise
from tests.rtil.evaluation.rows import of_classifier, of_reference, of_solver

TERMINAL = """\
method  checkpoint  n       PSNR dB   SSIM  LPIPS      vs vanilla [95 %]    win  best round*    vs*  oracle*  vs linear
-- cs 10 % ------------------------------------------------------------------------------------------------------------
ilo     vanilla     9  20.00 +-0.00  0.667  0.300                                21.00 (2/3)           21.00      -2.00
ilo†    rtil        9  21.60 +-0.00  0.720  0.284  +1.60 [+1.60, +1.60]‡  100 %  21.50 (3/3)  +0.50    22.60      -0.40
tv      -           9  18.00 +-0.00  0.600    n/a                                                                 -4.00
linear  -           9  22.00 +-0.00  0.733    n/a
-- cs 50 % ------------------------------------------------------------------------------------------------------------
ilo     vanilla     9  20.00 +-0.00  0.667  0.300                                21.00 (2/3)           21.00      -2.00
ilo†    rtil        9  22.00 +-0.00  0.733  0.280  +2.00 [+2.00, +2.00]‡  100 %  21.50 (3/3)  +0.50    23.00      +0.00
tv      -           9  18.00 +-0.00  0.600    n/a                                                                 -4.00
linear  -           9  22.00 +-0.00  0.733    n/a
Diverged reconstructions (their best finite iterate is kept): ilo vanilla 1.
Training length in thousands of images: vanilla 153.6, rtil 153.6.
‡: differs from its reference, by Student's paired test at 5 %, corrected (Holm) for all 2 comparisons of this table.
PSNR: mean over the images, +- half of its 95 % interval. Differences are paired by image, with 95 % bootstrap
intervals over images (one operator a cell, one training a checkpoint); win: share of images it is better on.
*: chosen with the truth, so out of a method's reach. best round: mean PSNR when stopped after that round, and
the distance to the reference stopped after its own best round; oracle: each image's best iterate.
linear: Gaussian posterior mean from the training pictures' covariance; vs linear: dB above it.
Without a generator: tv, total variation.
†: trained with RTIL, but with other random input, or at another place, than this method optimises.

-- cs, mean PSNR in dB --
method  checkpoint   10 %   50 %
ilo     vanilla     20.00  20.00
ilo†    rtil        21.60  22.00
tv      -           18.00  18.00
linear  -           22.00  22.00"""

MARKDOWN = """\
| cs, mean PSNR in dB | checkpoint | 10 % | 50 % |
| --- | --- | ---: | ---: |
| ilo | vanilla | 20.00 | 20.00 |
| ilo† | rtil | 21.60 | **22.00** |
| tv | - | 18.00 | 18.00 |
| linear | - | **22.00** | **22.00** |

| task | method | checkpoint | kimg | n | PSNR dB [95 %] | SSIM | LPIPS | vs vanilla dB [95 %] | win | after each round* dB | best rounds compared* dB | oracle* dB | vs linear dB [95 %] |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| cs 10 % | ilo | vanilla | 153.6 | 9 | 20.00 [20.00, 20.00] | 0.667 | 0.300 |  |  | 19.00 / 21.00 / 20.00 |  | 21.00 | -2.00 [-2.00, -2.00] |
| cs 10 % | ilo† | rtil | 153.6 | 9 | 21.60 [21.60, 21.60] | 0.720 | 0.284 | +1.60 [+1.60, +1.60]‡ | 100 % | 19.00 / 20.00 / 21.50 | +0.50 [+0.50, +0.50] | 22.60 | -0.40 [-0.40, -0.40] |
| cs 10 % | tv | - |  | 9 | 18.00 [18.00, 18.00] | 0.600 | n/a |  |  |  |  |  | -4.00 [-4.00, -4.00] |
| cs 10 % | linear | - |  | 9 | 22.00 [22.00, 22.00] | 0.733 | n/a |  |  |  |  |  |  |
| cs 50 % | ilo | vanilla | 153.6 | 9 | 20.00 [20.00, 20.00] | 0.667 | 0.300 |  |  | 19.00 / 21.00 / 20.00 |  | 21.00 | -2.00 [-2.00, -2.00] |
| cs 50 % | ilo† | rtil | 153.6 | 9 | 22.00 [22.00, 22.00] | 0.733 | 0.280 | +2.00 [+2.00, +2.00]‡ | 100 % | 19.00 / 20.00 / 21.50 | +0.50 [+0.50, +0.50] | 23.00 | +0.00 [+0.00, +0.00] |
| cs 50 % | tv | - |  | 9 | 18.00 [18.00, 18.00] | 0.600 | n/a |  |  |  |  |  | -4.00 [-4.00, -4.00] |
| cs 50 % | linear | - |  | 9 | 22.00 [22.00, 22.00] | 0.733 | n/a |  |  |  |  |  |  |
"""  # noqa: E501


def series(method, checkpoint, psnr, level, rounds=(), **changes):
    values = {"psnr": psnr, "ssim": psnr / 30, "lpips": math.nan, "seconds": 2.0, "psnr_round": rounds}
    if rounds:
        values |= {"lpips": 0.5 - psnr / 100, "selection": "measurement", "psnr_oracle": psnr + 1, "kimg": 153.6}
    return [Row(f"{i}.png", method, "cs", level, checkpoint, 0, "aaaa", **(values | changes)) for i in range(9)]


def example():
    rows = []
    for level in (0.1, 0.5):
        rows += series("ilo", "vanilla", 20.0, level, (19.0, 21.0, 20.0))
        rows += series("ilo", "rtil", 21.5 + level, level, (19.0, 20.0, 21.5), trained_otherwise=True)
        rows += series("tv", "-", 18.0, level) + series("linear", "-", 22.0, level)
    return [dataclasses.replace(rows[0], status="diverged"), *rows[1:]]


def test_terminal_shows_table_notes_and_overview():
    assert terminal(summarise(example())) == TERMINAL


def test_markdown_shows_overview_table_and_notes():
    text = markdown(summarise(example()))
    assert text.startswith(MARKDOWN)
    notes = text.removeprefix(MARKDOWN).strip().splitlines()
    table, _, overview = TERMINAL.partition("\n\n")
    assert [note.replace("\\*:", "*:") for note in notes] == table.splitlines()[11:]
    assert overview.startswith("-- cs, mean PSNR in dB --")
    assert sum(note.startswith("\\*: ") for note in notes) == 1


def write(rows, folder):
    write_csv(summarise(rows), folder / "summary.csv")
    assert [p.name for p in folder.iterdir()] == ["summary.csv"]
    with (folder / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_every_number(tmp_path):
    rows = example() + series("ilo", "vanilla", 20.0, 0.7, (20.0,))
    lines = write(rows, tmp_path)
    assert [(line["level"], line["method"], line["checkpoint"]) for line in lines[:4]] == [
        ("0.1", "ilo", "vanilla"), ("0.1", "ilo", "rtil"), ("0.1", "tv", "-"), ("0.1", "linear", "-")]  # fmt: skip
    assert lines[1] == {
        "task": "cs", "level": "0.1", "method": "ilo", "checkpoint": "rtil", "selection": "measurement",
        "settings": "aaaa", "n": "9", "diverged": "0",
        "psnr": "21.6", "psnr_low": "21.6", "psnr_high": "21.6", "psnr_left_out": "0",
        "ssim": "0.72", "ssim_low": "0.72", "ssim_high": "0.72", "ssim_left_out": "0",
        "lpips": "0.284", "lpips_low": "0.284", "lpips_high": "0.284", "lpips_left_out": "0",
        "oracle": "22.6", "oracle_low": "22.6", "oracle_high": "22.6", "oracle_left_out": "0",
        "psnr_round_1": "19", "psnr_round_2": "20", "psnr_round_3": "21.5", "best_round": "3",
        "reference": "vanilla", "reference_settings": "aaaa",
        "psnr_gain": "1.6", "psnr_gain_low": "1.6", "psnr_gain_high": "1.6", "psnr_gain_win_rate": "1",
        "psnr_gain_n": "9",
        "ssim_gain": "0.0533333", "ssim_gain_low": "0.0533333", "ssim_gain_high": "0.0533333",
        "ssim_gain_win_rate": "1", "ssim_gain_n": "9",
        "lpips_gain": "-0.016", "lpips_gain_low": "-0.016", "lpips_gain_high": "-0.016", "lpips_gain_win_rate": "1",
        "lpips_gain_n": "9",
        "best_round_gain": "0.5", "best_round_gain_low": "0.5", "best_round_gain_high": "0.5",
        "best_round_gain_win_rate": "1", "best_round_gain_n": "9",
        "over_linear": "-0.4", "over_linear_low": "-0.4", "over_linear_high": "-0.4", "over_linear_win_rate": "0",
        "over_linear_n": "9",
        "seconds": "2", "measurement_error": "", "kimg": "153.6", "arch": "", "trained_otherwise": "True",
    }  # fmt: skip
    assert lines[0]["diverged"] == "1"
    assert [lines[-1][f"psnr_round_{r}"] for r in (1, 2, 3)] == ["20", "", ""]
    assert {lines[3][name] for name in ("lpips", "oracle_low", "best_round", "psnr_gain", "over_linear_n")} == {""}


def test_scores_have_a_table_of_their_own(tmp_path):
    rows = of_classifier(method="ilo-r1") + of_classifier("great white shark", method="ilo-free", after=(0.5, 1.0))
    summary = summarise(rows)
    assert terminal(summary).splitlines() == [
        "method    checkpoint  class              p before  p after  top class  rms change",
        "ilo-r1    rtil        goldfish           0.125     0.500    0.500      0.062",
        "ilo-free  rtil        great white shark  0.125     0.750    0.500      0.062",
    ]
    assert markdown(summary).splitlines() == [
        "| method | checkpoint | class | p before | p after | top class | rms change |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        "| ilo-r1 | rtil | goldfish | 0.125 | 0.500 | 0.500 | 0.062 |",
        "| ilo-free | rtil | great white shark | 0.125 | 0.750 | 0.500 | 0.062 |",
    ]
    assert write(rows, tmp_path)[1] == {
        "method": "ilo-free", "checkpoint": "rtil", "class": "great white shark", "settings": "aaaa", "pictures": "2",
        "probability_before": "0.125", "probability_after": "0.75", "recognised_before": "0",
        "recognised_after": "0.5", "rms_change": "0.0625", "seconds": "3", "diverged": "0",
    }  # fmt: skip
    marked = summarise([dataclasses.replace(row, trained_otherwise=True) for row in rows])
    assert "ilo-r1\u2020" in terminal(marked)


def test_an_overview_has_all_levels_and_the_best_of_each():
    rows = [*series("ilo", "vanilla", 20.5, 0.5), *series("ilo", "vanilla", 15.5, 0.1)]
    rows += [*series("csgm", "vanilla", 24.5, 0.5), *series("a|b", "-", 1, 0.1), *series("tv", "-", math.nan, "box")]
    assert markdown(summarise(rows)).splitlines()[:6] == [
        "| cs, mean PSNR in dB | checkpoint | 10 % | 50 % | box |",
        "| --- | --- | ---: | ---: | ---: |",
        "| ilo | vanilla | **15.50** | 20.50 | n/a |",
        "| csgm | vanilla | n/a | **24.50** | n/a |",
        "| a\\|b | - | 1.00 | n/a | n/a |",
        "| tv | - | n/a | n/a | n/a |",
    ]
    for writer in (terminal, markdown):
        assert "mean PSNR in dB" not in writer(summarise(of_solver()))
        assert "mean PSNR in dB" not in writer(summarise(of_solver() + of_solver(task="sr", level=2)))
        two_tasks = summarise(rows + of_solver(task="sr", level=2) + of_solver(task="sr", level=4))
        assert writer(two_tasks).count("mean PSNR in dB") == 2


@pytest.mark.parametrize("method", ["ilo", "mganprior-20"])
@pytest.mark.parametrize("names", [("vanilla", "rtil"), ("only",), ("a" * 60, "rtil", "vanilla2")])
def test_terminal_table_fits_and_is_aligned(names, method):
    some = of_solver(names, method=method, trained_otherwise=method != "ilo")
    some += of_solver(names, task="inpaint", level="a-mask") + of_solver(names, task="inversion", level=None)
    lines = terminal(summarise(some + of_reference())).splitlines()
    assert max(map(len, lines)) <= 120
    table = [line for line in lines if line.startswith(("method ", "ilo ", "linear ", "mganp"))]
    column = table[0].index("PSNR dB") + len("PSNR dB")
    assert all(line[column - 1] != " " and line[column] == " " for line in table)
    assert ("win" in table[0]) == (len(names) > 1)
    assert ["a" * 60 in line for line in lines] == [False] * len(lines)
    assert any("a~ " in line for line in lines) == ("a" * 60 in names)


def test_ten_variants_keep_the_table_in_its_width():
    names = [f"variant-{n}".ljust(16, "x") for n in range(10)]
    some = [row for name in names for row in of_solver(method=name, trained_otherwise=True)] + of_reference()
    lines = terminal(summarise(some)).splitlines()
    assert max(map(len, lines)) <= 120
    assert all(sum(line.startswith(f"{name}\u2020") for line in lines) == 2 for name in names)


def test_several_references_are_not_named_in_the_head():
    some = of_solver(arch="stylegan2") + of_solver(("pg", "pg2"), arch="pggan")
    assert "vs reference [95 %]" in terminal(summarise(some))
    assert "| vs reference dB [95 %] |" in markdown(summarise(some))


def test_infinite_psnr_is_shown():
    text = terminal(summarise(of_solver(psnr=math.inf, psnr_round=(math.inf,), psnr_oracle=math.inf)))
    assert "n/a" in text  # no finite value to average
    assert "50 %" in text  # ties


def test_no_rows(tmp_path):
    assert terminal(summarise([])) == markdown(summarise([])) == "no rows"
    assert write([], tmp_path) == []
