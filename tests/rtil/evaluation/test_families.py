"""Corrections for many tests, against their definitions."""

import math
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from rtil.evaluation.families import detectable, holm, p_value


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_bonferroni_of_every_subset_that_holds_the_test(p):
    """The closed testing principle (Marcus et al. 1976), of which Holm's rule is the short form."""
    m = len(p)
    subsets = [set(one) for size in range(1, m + 1) for one in combinations(range(m), size)]
    for index, got in enumerate(holm(p)):
        closed = max(min(1.0, len(one) * min(p[i] for i in one)) for one in subsets if index in one)
        assert got == pytest.approx(closed)


def test_tests_that_could_not_be_made_are_no_members():
    assert holm([0.02, math.nan]) == pytest.approx([0.02, math.nan], nan_ok=True)
    assert holm([]) == []


def test_the_family_errs_in_one_of_twenty():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 10, 20))
    p = scipy.stats.ttest_1samp(values, 0, axis=-1).pvalue
    wrong = [min(holm(list(family))) < 0.05 for family in p]
    assert 0.03 < np.mean(wrong) < 0.07


@pytest.mark.parametrize("n", [3, 8, 34])
def test_what_is_detectable_is_found_in_four_of_five(n):
    shift = detectable(1 / math.sqrt(n), n - 1)
    values = np.random.default_rng(n).normal(shift, 1, (20000, n))
    assert np.mean(scipy.stats.ttest_1samp(values, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)


def test_no_spread_and_no_error():
    assert (p_value(1.0, 0.0, 5), p_value(0.0, 0.0, 5)) == (0.0, 1.0)
    assert math.isnan(p_value(1.0, math.nan, math.nan))
    assert math.isnan(detectable(math.nan, math.nan))
