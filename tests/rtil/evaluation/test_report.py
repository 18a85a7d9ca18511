import csv
import math

import numpy as np
import pytest

from rtil.evaluation.report import level_text, markdown_table, terminal_table, write_summary
from rtil.evaluation.rows import Row
from rtil.evaluation.statistics import mean_interval, paired_difference
from rtil.evaluation.summary import summarise

GAINS = {"vanilla": 0.0, "rtil": 1.5, "vanilla2": 0.0}


def rows(checkpoints=("vanilla", "rtil"), images=20, seeds=(0,), method="ilo", task="cs", level=0.1, **changes):
    rng = np.random.default_rng(0)
    base, out = rng.normal(20, 3, images), []
    for checkpoint in checkpoints:
        for image in range(images):
            for seed in seeds:
                psnr = base[image] + GAINS.get(checkpoint, 0.0) + rng.normal(0, 0.3)
                # rtil is best after its last round, vanilla after its second
                fall = 0.0 if checkpoint == "rtil" else 1.0
                values = {"psnr": psnr, "ssim": 0.8, "lpips": 0.3 - GAINS.get(checkpoint, 0.0) / 10, "seconds": 2.0,
                          "selection": "measurement", "psnr_oracle": psnr + 2,
                          "psnr_round": (psnr - 2, psnr + fall, psnr)}  # fmt: skip
                out.append(Row(f"{image}.png", method, task, level, checkpoint, seed, "aaaa", **(values | changes)))
    return out


def linear(images=20, task="cs", level=0.1):
    return [Row(f"{i}.png", "linear", task, level, "-", 0, "bbbb", 22.0, 0.9, math.nan, 0.1) for i in range(images)]


def psnrs(some, checkpoint):
    return [r.psnr for r in sorted(some, key=lambda r: r.image) if r.checkpoint == checkpoint]


def test_cells_are_the_statistics_of_their_rows():
    some = rows() + linear()
    vanilla, rtil, prior = summarise(some)
    assert [c.checkpoint for c in (vanilla, rtil, prior)] == ["vanilla", "rtil", "-"]
    assert rtil.psnr == mean_interval(psnrs(some, "rtil"))
    assert rtil.psnr_gain == paired_difference(psnrs(some, "vanilla"), psnrs(some, "rtil"))
    assert rtil.lpips_gain.mean == pytest.approx(-0.15)
    assert rtil.lpips_gain.win_rate == 1
    assert rtil.over_linear.mean == pytest.approx(np.mean(psnrs(some, "rtil")) - 22)
    assert rtil.oracle.mean == pytest.approx(rtil.psnr.mean + 2)
    assert (vanilla.best_round, rtil.best_round, prior.best_round) == (2, 2, None)
    assert rtil.best_round_gain.mean == pytest.approx(rtil.psnr_gain.mean - 1)
    assert (vanilla.reference, vanilla.psnr_gain, prior.psnr_gain, prior.over_linear) == ("", None, None, None)


def test_order_of_rows_does_not_matter():
    some = rows(("vanilla", "rtil", "vanilla2")) + rows(method="csgm") + linear()
    shuffled = [some[i] for i in np.random.default_rng(1).permutation(len(some))]

    def by_name(cells):
        return {(c.method, c.checkpoint): (c.psnr, c.psnr_gain, c.over_linear) for c in cells}

    assert by_name(summarise(some)) == by_name(summarise(shuffled))


def test_only_common_images_are_paired_and_seeds_of_an_image_count_once():
    some = rows(seeds=(0, 1))
    some = [r for r in some if not (r.checkpoint == "rtil" and r.image in ("3.png", "4.png"))]
    vanilla, rtil = summarise(some)
    assert (vanilla.n, rtil.n) == (20, 18)
    assert (vanilla.psnr.n, rtil.psnr_gain.n) == (20, 18)


def test_pairing_prefers_equal_settings_and_accepts_the_only_other():
    tuned = rows(("rtil",), psnr=30.0)
    tuned = [Row(**{**vars(r), "settings": "cccc"}) for r in tuned]
    assert summarise(rows(("vanilla",)) + tuned)[1].psnr_gain is not None
    for table in (terminal_table, markdown_table):
        assert "other settings than its reference (see settings.json): ilo rtil." in table(rows(("vanilla",)) + tuned)
        assert "other settings" not in table(rows())
    two_vanillas = rows(("vanilla",)) + [Row(**{**vars(r), "settings": "dddd"}) for r in rows(("vanilla",))]
    assert summarise(two_vanillas + tuned)[2].psnr_gain is None
    matched = summarise([*two_vanillas, *(Row(**{**vars(r), "settings": "dddd", "psnr": 99.0}) for r in tuned)])
    assert matched[2].psnr_gain.n == 20
    text = terminal_table(two_vanillas + tuned)
    assert "vanilla #aaaa" in text
    assert "vanilla #dddd" in text


def test_each_architecture_has_its_own_reference():
    def of(name, arch, rtil=False):
        return rows((name,), arch=arch, rtil=rtil)

    sg = of("vanilla", "stylegan2") + of("rtil", "stylegan2", True)
    assert [c.reference for c in summarise(sg + of("other", "stylegan2"))] == ["", "vanilla", "vanilla"]
    mixed = of("pg-rtil", "pggan", True) + sg + of("pg", "pggan") + of("pg2", "pggan") + linear()
    found = {c.checkpoint: c.reference for c in summarise(mixed)}
    assert found == {"pg-rtil": "pg", "vanilla": "", "rtil": "vanilla", "pg": "", "pg2": "pg", "-": ""}
    gains = {c.checkpoint: c.psnr_gain for c in summarise(mixed)}
    assert gains["pg-rtil"] == paired_difference(psnrs(mixed, "pg"), psnrs(mixed, "pg-rtil"))
    for text in (terminal_table(mixed), markdown_table(mixed)):
        assert "vs reference" in text
        assert "Compared: pg-rtil with pg, rtil with vanilla, pg2 with pg." in text
    without = of("pg-rtil", "pggan", True) + sg
    assert {c.checkpoint: c.reference for c in summarise(without)}["pg-rtil"] == "vanilla"
    older = rows(("vanilla", "rtil")) + of("pg", "pggan")
    assert [c.reference for c in summarise(older)] == ["", "vanilla", "vanilla"]


def test_cells_that_mix_differently_are_marked(tmp_path):
    some = rows(("vanilla",)) + rows(("rtil",), mixes_differently=True, arch="pggan", rtil=True)
    for text in (terminal_table(some), markdown_table(some)):
        marked = [line for line in text.splitlines() if "ilo\u2020" in line]
        assert len(marked) == 1
        assert " rtil " in marked[0]
        assert sum(line.startswith("\u2020: trained with RTIL, but") for line in text.splitlines()) == 1
    assert "\u2020" not in terminal_table(rows()) + markdown_table(rows())
    write_summary(some, tmp_path / "summary.csv")
    with (tmp_path / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["arch"], line["mixes_differently"]) for line in lines] == [("", "False"), ("pggan", "True")]


def test_colorization_says_what_is_reported():
    text = terminal_table(rows(task="colorize", level=None) + linear(task="colorize", level=None))
    assert "-- colorize --" in text
    assert "colorize: every method's result" in text
    assert "colorize" not in terminal_table(rows())


def test_nonlinear_tasks_say_why_they_have_no_linear_prior():
    some = rows() + linear() + rows(task="phase", level=4)
    for text in (terminal_table(some), markdown_table(some), terminal_table(rows(task="phase", level=4))):
        assert "phase: nonlinear, so without the linear prior, which is for linear operators only." in text
        assert "phase 4 masks" in text
    assert "nonlinear" not in terminal_table(rows() + linear())


def test_selections_are_told_apart_and_paired_among_themselves():
    some = rows() + [Row(**{**vars(r), "selection": "last", "settings": "last"}) for r in rows()]
    cells = summarise(some)
    assert [c.psnr_gain is None for c in cells] == [True, False, True, False]
    assert "rtil/last" in terminal_table(some)
    variants = rows(method="a") + rows(method="b", selection="heldout")
    assert "/heldout" not in terminal_table(variants), "each has one only"


@pytest.mark.parametrize("method", ["ilo", "mganprior-20"])
@pytest.mark.parametrize("names", [("vanilla", "rtil"), ("only",), ("a" * 60, "rtil", "vanilla2")])
def test_terminal_table_fits_and_is_aligned(names, method):
    some = rows(names, method=method, mixes_differently=method != "ilo")
    some += rows(names, task="inpaint", level="a-mask") + rows(names, task="inversion", level=None)
    text = terminal_table(some + linear())
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    table = [line for line in lines if line.startswith(("method ", "ilo ", "linear ", "mganp"))]
    column = table[0].index("PSNR dB") + len("PSNR dB")
    assert all(line[column - 1] != " " and line[column] == " " for line in table)
    assert "-- cs 10 % --" in text
    assert ("win" in table[0]) == (len(names) > 1)


def baseline(name, images=20, task="cs", level=0.1):
    return [Row(f"{i}.png", name, task, level, "-", 0, "cccc", 21.0, 0.9, 0.3, 0.1) for i in range(images)]


def test_baselines_stand_behind_the_checkpoints_and_before_the_linear_prior():
    some = linear() + baseline("tv") + rows(("vanilla", "rtil")) + baseline("adjoint")
    cells = summarise(some)
    assert [c.method for c in cells] == ["ilo", "ilo", "tv", "adjoint", "linear"]
    assert [c.reference for c in cells] == ["", "vanilla", "", "", ""]
    assert cells[2].over_linear.mean == pytest.approx(-1)
    for text in (terminal_table(some), markdown_table(some)):
        assert "Without a network: adjoint, the least picture that fits; tv, total variation." in text
    assert "Without a network" not in terminal_table(rows() + linear())
    line = next(line for line in markdown_table(some).splitlines() if line.startswith("| cs 10 % | tv "))
    assert line.startswith("| cs 10 % | tv | - |  | 20 | 21.00 ")


def test_ten_variants_keep_the_table_in_its_width():
    names = [f"variant-{n}".ljust(16, "x") for n in range(10)]
    some = [row for name in names for row in rows(method=name, mixes_differently=True)] + linear()
    lines = terminal_table(some).splitlines()
    assert max(map(len, lines)) <= 120
    assert all(sum(line.startswith(f"{name}\u2020") for line in lines) == 2 for name in names)


def test_tables_show_the_numbers():
    some = rows() + linear()
    rtil = summarise(some)[1]
    for text in (terminal_table(some), markdown_table(some)):
        assert f"{rtil.psnr.mean:.2f}" in text
        assert f"{rtil.psnr_gain.mean:+.2f} [{rtil.psnr_gain.low:+.2f}, {rtil.psnr_gain.high:+.2f}]" in text
        assert "100 %" in text
        assert "n/a" in text  # the linear prior's LPIPS
        assert f"{rtil.over_linear.mean:+.2f}" in text
    assert " / ".join(f"{value:.2f}" for value in rtil.rounds) in markdown_table(some)
    assert f"{rtil.rounds[1]:.2f} (2/3)" in terminal_table(some)
    assert "Diverged" not in terminal_table(some)
    assert "kept): ilo vanilla 20, ilo rtil 20." in terminal_table(rows(status="diverged"))


def test_markdown_rows_have_one_cell_for_each_column():
    table = [line for line in markdown_table(rows() + linear()).splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert {line.count("|") for line in table} == {table[0].count("|")}


def test_infinite_psnr_is_shown():
    text = terminal_table(rows(psnr=math.inf, psnr_round=(math.inf,), psnr_oracle=math.inf))
    assert "n/a" in text  # no finite value to average
    assert "50 %" in text  # ties


def test_summary_csv_holds_every_cell(tmp_path):
    path = tmp_path / "summary.csv"
    some = rows() + linear()
    write_summary(some, path)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["checkpoint"]) for line in lines] == [
        ("ilo", "vanilla"), ("ilo", "rtil"), ("linear", "-")]  # fmt: skip
    rtil = summarise(some)[1]
    assert float(lines[1]["psnr_gain_low"]) == pytest.approx(rtil.psnr_gain.low, rel=1e-5)
    assert float(lines[1]["psnr_round_2"]) == pytest.approx(rtil.rounds[1], rel=1e-5)
    assert (lines[1]["psnr_gain_n"], lines[1]["reference"], lines[2]["lpips"]) == ("20", "vanilla", "")
    assert [p.name for p in tmp_path.iterdir()] == ["summary.csv"]


def test_no_rows(tmp_path):
    assert terminal_table([]) == markdown_table([]) == "no rows"
    write_summary([], tmp_path / "summary.csv")


def test_level_text():
    assert level_text("inpaint", "box-1") == "box-1"
    assert level_text("cs", 0.01) == "1 %"
    assert level_text("blur", 1.5) == "1.5 px"
    assert level_text("phase", 1) == "1 mask"
