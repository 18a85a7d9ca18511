import math

import pytest

from rtil.evaluation.summary import summarise
from rtil.report.tables import columns_of
from tests.rtil.evaluation.rows import of_classifier, of_reference, of_solver


def table(rows):
    return {column.head: column for column in columns_of(summarise(rows).lines)}


def test_the_best_of_each_cell_is_marked_and_lpips_is_best_where_it_is_least():
    found = table(of_solver() + of_solver(level=0.5) + of_reference())
    psnr, lpips = found["PSNR"].cells, found["LPIPS"].cells
    assert [cell.best for cell in psnr].count(True) == 2
    for column, best in ((psnr[:3], max), (lpips[:2], min)):
        assert next(cell for cell in column if cell.best).key == best(cell.key for cell in column)


def test_what_says_nothing_has_no_column():
    heads = set(table(of_solver(("vanilla",), lpips=math.nan)))
    assert {"PSNR", "SSIM", "seconds", "oracle*"} <= heads
    assert not heads & {"LPIPS", "vs vanilla", "vs the reference", "win", "diverged", "vs linear"}


@pytest.mark.parametrize(("images", "shown"), [(7, False), (8, True)])
def test_intervals_are_shown_from_eight_pictures_on(images, shown):
    assert all(bool(cell.interval) == shown for cell in table(of_solver(images=images))["PSNR"].cells)


def test_numbers_are_sorted_as_numbers_and_what_is_missing_has_no_key():
    found = table(of_solver() + of_solver(level=0.5))
    assert [cell.key for cell in found["level"].cells] == [0.1, 0.1, 0.5, 0.5]
    gains = found["vs vanilla"].cells
    assert [isinstance(cell.key, float) for cell in gains] == [False, True, False, True]
    assert gains[0].text == gains[0].key == ""


def test_several_references_are_not_named_in_the_head():
    assert "vs the reference" in table(of_solver(arch="stylegan2") + of_solver(("pg", "pg2"), arch="pggan"))


def test_classes_have_their_own_columns():
    found = table(of_classifier())
    assert list(found) == [
        "task",
        "class",
        "method",
        "prior",
        "n",
        "p before",
        "p after",
        "top class",
        "rms change",
        "seconds",
    ]
    assert found["p after"].cells[0].text == "0.500"
