"""Sentences from numbers: who leads, what is not decided, ratios, and tables."""

import csv
from pathlib import Path
from typing import Any

from rtil.evaluation.rows import Row
from rtil.evaluation.summary import summarise
from rtil.study.results import Result, ratios
from rtil.study.specification import Checkpoint, Study
from rtil.study.words import statements, write_summary, write_words
from tests.rtil.evaluation.rows import of_classifier, of_solver


def study(**changes: Any) -> Study:
    base = {"checkpoints": {"vanilla": Checkpoint("x")}, "evaluations": {"a": {}}}
    return Study("mine", "mine", "", "Mine", **(base | changes))


def result(rows: list[Row]) -> dict[str, Result]:
    return {"a": Result(rows, summarise(rows), [])}


def test_who_leads_is_told_with_its_interval_and_what_is_not_decided_with_what_could_be_seen() -> None:
    rows = of_solver(level=0.1) + of_solver(("vanilla", "vanilla2"), level=0.5)
    lead, open_ = statements(study(), result(rows), [], [])
    line = summarise(rows).lines[1]
    gain, ratio = line.psnr_gain, line.error_ratio
    assert gain is not None
    assert ratio is not None
    assert lead == (
        f"cs, ilo: rtil leads vanilla by {gain.mean:.2f} dB [{gain.low:.2f}, {gain.high:.2f}] ({ratio.mean:.2f} times "
        f"less squared error [{ratio.low:.2f}, {ratio.high:.2f}]) (n = 20)."
    )
    assert open_.startswith("cs, ilo: between vanilla2 and vanilla not decided at 50 % (")
    assert "dB would have been found in four of five times) (n = 20)." in open_


def test_several_levels_are_one_sentence_and_a_loss_is_told() -> None:
    rows = of_solver(level=0.1) + of_solver(level=0.2) + of_solver(level=0.3, checkpoints=("vanilla", "vanilla2"))
    rows = [*rows, *of_solver(("rtil",), level=0.3, psnr=1.0)]
    (first, *_) = statements(study(), result(rows), [], [])
    assert first.startswith("cs, ilo: rtil leads vanilla at 2 of 3 levels by 1.")
    assert "; rtil is behind vanilla at 1 of 3 levels by 1" in first


def test_few_pictures_decide_nothing() -> None:
    (sentence,) = statements(study(), result(of_solver(images=7)), [], [])
    assert sentence == "cs, ilo: between rtil and vanilla not decided at 10 % (7 images are too few) (n = 7)."


def test_ratios_are_those_of_mean_squared_errors() -> None:
    rows = of_solver(method="csgm", psnr=20.0) + of_solver(method="ilo", psnr=23.0103)
    found = ratios(study(ratios=("csgm / ilo", "pulse / ilo")), result(rows))
    assert {(one.checkpoint, round(one.interval.mean, 3)) for one in found} == {("vanilla", 2.0), ("rtil", 2.0)}
    sentences = statements(study(), result(rows), found, [])
    assert "squared error of csgm over that of ilo, rtil: cs 10 % 2.00 [2.00, 2.00]." in sentences


def test_files_hold_the_tests_and_scores_have_none(tmp_path: Path) -> None:
    results = result(of_solver())
    write_summary(results, tmp_path / "summary.csv")
    with (tmp_path / "summary.csv").open(newline="") as file:
        _, rtil = csv.DictReader(file)
    gain = results["a"].summary.lines[1].psnr_gain
    assert gain is not None
    assert (rtil["evaluation"], rtil["seeds"], rtil["decided"]) == ("a", "1", "True")
    assert float(rtil["p"]) == float(f"{gain.p_value:.6g}")
    assert rtil["error_ratio_low"] != ""
    of_classes = result(of_classifier())
    write_summary(of_classes, tmp_path / "summary.csv")
    write_words(study(note="A note."), of_classes, [], [], tmp_path / "summary.md")
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("# Mine\n\nOperator seeds: 0. A note.\n")
    assert "| ilo-r1 | rtil | goldfish |" in text
