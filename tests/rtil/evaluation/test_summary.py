import dataclasses

import numpy as np
import pytest

from rtil.evaluation.statistics import mean_interval, paired_difference
from rtil.evaluation.summary import summarise
from tests.rtil.evaluation.rows import of_classifier, of_reference, of_solver


def psnrs(some, checkpoint):
    return [r.psnr for r in sorted(some, key=lambda r: r.image) if r.checkpoint == checkpoint]


def test_lines_are_the_statistics_of_their_rows():
    some = of_solver() + of_reference()
    vanilla, rtil, prior = summarise(some).lines
    assert [line.checkpoint for line in (vanilla, rtil, prior)] == ["vanilla", "rtil", "-"]
    assert rtil.psnr == mean_interval(psnrs(some, "rtil"))
    assert rtil.squared_error == mean_interval([10 ** (-psnr / 10) for psnr in psnrs(some, "rtil")])
    assert rtil.psnr_gain == paired_difference(psnrs(some, "vanilla"), psnrs(some, "rtil"))
    assert rtil.lpips_gain.mean == pytest.approx(-0.15)
    assert rtil.lpips_gain.win_rate == 1
    assert rtil.over_linear.mean == pytest.approx(np.mean(psnrs(some, "rtil")) - 22)
    assert rtil.oracle.mean == pytest.approx(rtil.psnr.mean + 2)
    assert (vanilla.best_round, rtil.best_round, prior.best_round) == (2, 2, None)
    assert rtil.best_round_gain.mean == pytest.approx(rtil.psnr_gain.mean - 1)
    assert (vanilla.reference, vanilla.psnr_gain, prior.psnr_gain, prior.over_linear) == ("", None, None, None)
    assert rtil.condition == "cs 10 %"


def test_order_of_rows_does_not_matter():
    some = of_solver(("vanilla", "rtil", "vanilla2")) + of_solver(method="csgm") + of_reference()
    shuffled = [some[i] for i in np.random.default_rng(1).permutation(len(some))]

    def by_name(rows):
        lines = summarise(rows).lines
        return {(line.method, line.checkpoint): (line.psnr, line.psnr_gain, line.over_linear) for line in lines}

    assert by_name(some) == by_name(shuffled)


def test_references_stand_behind_the_checkpoints_and_the_linear_prior_last():
    some = of_reference() + of_reference("tv") + of_solver() + of_reference("adjoint")
    lines = summarise(some).lines
    assert [line.method for line in lines] == ["ilo", "ilo", "tv", "adjoint", "linear"]
    assert [line.reference for line in lines] == ["", "vanilla", "", "", ""]
    assert lines[2].over_linear.mean == pytest.approx(-1)


def test_only_common_images_are_paired_and_seeds_of_an_image_count_once():
    some = of_solver(seeds=(0, 1))
    some = [r for r in some if not (r.checkpoint == "rtil" and r.image in ("3.png", "4.png"))]
    vanilla, rtil = summarise(some).lines
    assert (vanilla.n, rtil.n) == (20, 18)
    assert (vanilla.psnr.n, rtil.psnr_gain.n) == (20, 18)


def test_pairing_prefers_equal_settings_and_accepts_the_only_other():
    vanilla, tuned = of_solver(("vanilla",)), of_solver(("rtil",), psnr=30.0, settings="cccc")
    assert summarise(vanilla + tuned).lines[1].psnr_gain is not None
    two_vanillas = vanilla + of_solver(("vanilla",), settings="dddd")
    assert summarise(two_vanillas + tuned).lines[2].psnr_gain is None
    matched = summarise([*two_vanillas, *of_solver(("rtil",), psnr=99.0, settings="dddd")]).lines
    assert matched[2].psnr_gain.n == 20


def test_each_architecture_has_its_own_reference():
    def of(name, arch, rtil=False):
        return of_solver((name,), arch=arch, rtil=rtil)

    sg = of("vanilla", "stylegan2") + of("rtil", "stylegan2", True)
    assert [line.reference for line in summarise(sg + of("other", "stylegan2")).lines] == ["", "vanilla", "vanilla"]
    mixed = of("pg-rtil", "pggan", True) + sg + of("pg", "pggan") + of("pg2", "pggan") + of_reference()
    summary = summarise(mixed)
    assert summary.references == {"pg-rtil": "pg", "rtil": "vanilla", "pg2": "pg"}
    gains = {line.checkpoint: line.psnr_gain for line in summary.lines}
    assert gains["pg-rtil"] == paired_difference(psnrs(mixed, "pg"), psnrs(mixed, "pg-rtil"))
    assert summarise(of("pg-rtil", "pggan", True) + sg).references == {"pg-rtil": "vanilla", "rtil": "vanilla"}
    older = of_solver() + of("pg", "pggan")
    assert [line.reference for line in summarise(older).lines] == ["", "vanilla", "vanilla"]


def test_selections_are_told_apart_and_paired_among_themselves():
    lines = summarise(of_solver() + of_solver(selection="last", settings="last")).lines
    assert [line.psnr_gain is None for line in lines] == [True, False, True, False]
    assert [line.label for line in lines] == ["vanilla/measurement", "rtil/measurement", "vanilla/last", "rtil/last"]
    variants = summarise(of_solver(method="a") + of_solver(method="b", selection="heldout")).lines
    assert {line.label for line in variants} == {"vanilla", "rtil"}, "each has one only"


def test_settings_are_told_apart_where_there_are_several():
    some = of_solver() + of_solver(("vanilla",), settings="dddddd") + of_solver(level=0.5, settings="eeee")
    labels = [line.label for line in summarise(some).lines]
    assert labels == ["vanilla #aaaa", "rtil", "vanilla #dddd", "vanilla", "rtil"]


def test_rounds_are_those_that_all_rows_have():
    some = [dataclasses.replace(r, psnr_round=r.psnr_round[: 1 + (r.image != "0.png")]) for r in of_solver(("rtil",))]
    (line,) = summarise(some).lines
    assert (len(line.rounds), line.best_round) == (1, 1)


def test_scores_are_means_and_shares_of_pictures_taken_for_the_class():
    goldfish, other = summarise(of_classifier() + of_classifier("tench", after=(0.5, 0.5))).lines
    assert goldfish.scores == {
        "probability_before": 0.125, "probability_after": 0.5, "top_before": 0.0, "top_after": 0.5,
        "rms_change": 0.0625,
    }  # fmt: skip
    assert (other.level, other.scores["top_before"], other.scores["top_after"]) == ("tench", 1.0, 1.0)
    assert summarise(of_solver()).lines[0].scores == {}


def test_nothing_comes_of_no_rows():
    assert list(summarise([]).lines) == []
