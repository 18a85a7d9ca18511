from pathlib import Path

import numpy as np
import pytest

from rtil.evaluation.summary import summarise
from rtil.report.parts import Evaluated
from rtil.report.words import statements_on
from tests.rtil.evaluation.rows import of_classifier, of_reference, of_solver


def evaluated(rows):
    return Evaluated(Path("folder"), {}, rows, summarise(rows), 0, "")


def said(rows):
    return statements_on(evaluated(rows))


def mean_difference(rows, checkpoint, other):
    values = {(row.checkpoint, row.image): row.psnr for row in rows}
    images = {row.image for row in rows}
    return np.mean([values[checkpoint, image] - values[other, image] for image in images])


def test_the_leader_of_a_cell_is_told_with_its_paired_lead():
    rows = of_solver()
    first, second = said(rows)
    lead = mean_difference(rows, "rtil", "vanilla")
    assert first.startswith("cs 10 %: ilo, rtil has the highest mean PSNR, ")
    assert f", {lead:+.2f} dB [+" in first
    assert first.endswith("above ilo, vanilla (n = 20).")
    assert second.startswith(f"ilo, rtil is above vanilla at cs 10 %: {lead:+.2f} dB [+")


def test_a_lead_whose_interval_holds_0_is_not_decided():
    first, *_ = said(of_solver(("vanilla", "vanilla2")))
    assert first.startswith("cs 10 %, not decided: ")
    assert "may as well be none (n = 20)" in first


@pytest.mark.parametrize(("images", "word"), [(7, "too few to tell"), (8, "above ilo, vanilla (n = 8)")])
def test_few_pictures_decide_nothing(images, word):
    first, *_ = said(of_solver(images=images))
    assert word in first
    assert ("[" in first) == (images == 8)


def test_levels_with_the_same_leader_are_one_sentence():
    rows = [row for level in (0.05, 0.1, 0.5) for row in of_solver(level=level)]
    first, second = said(rows)
    assert first.startswith("cs at 5 %, 10 %, 50 %: ilo, rtil has the highest mean PSNR, +")
    assert first.endswith("every interval above 0.")
    assert second.startswith("ilo, rtil against vanilla, in 3 cells: above it in 3 (by +")


def test_each_is_held_against_the_linear_prior():
    rows = of_solver() + of_reference()
    assert any(text.startswith("ilo, vanilla is") and "the linear prior at cs 10 %" in text for text in said(rows))
    assert not any(text.startswith("linear is") for text in said(rows))


def test_who_stands_alone_leads_nobody():
    (only,) = said(of_solver(("vanilla",)))
    assert only.endswith("nothing stands beside it.")


def test_pictures_that_only_one_has_are_not_compared():
    vanilla, rtil = of_solver(("vanilla",)), of_solver(("rtil",))
    first, *_ = said([*vanilla[:10], *rtil])
    assert "(n = 10)" in first


def test_classes_are_told_by_their_probability():
    (only,) = said(of_classifier())
    assert only.startswith("goldfish: ilo-r1, rtil moves the probability from 0.125 to 0.500; 50 % of the pictures")
