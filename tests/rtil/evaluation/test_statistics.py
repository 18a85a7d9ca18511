import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from rtil.evaluation import statistics
from rtil.evaluation.statistics import mean_interval, paired_difference
from rtil.seeds import derive_seed

inf, nan = math.inf, math.nan


def test_equals_scipys_paired_bca_interval():
    rng = np.random.default_rng(0)
    a = rng.normal(20, 3, 60)
    b = a + rng.exponential(1, 60)
    got = paired_difference(a, b)
    expected = scipy.stats.bootstrap(
        (a, b), lambda a, b, axis: np.mean(b - a, axis=axis), paired=True, method="BCa", n_resamples=9999,
        rng=np.random.default_rng(derive_seed(0, "bootstrap")),
    ).confidence_interval  # fmt: skip
    assert got.low == pytest.approx(expected.low)
    assert got.high == pytest.approx(expected.high)
    assert got.mean == pytest.approx((b - a).mean())
    assert (got.n, got.left_out, got.win_rate) == (60, 0, 1.0)


def test_pairing_narrows_the_interval_and_resampling_is_repeatable():
    rng = np.random.default_rng(1)
    a = rng.normal(20, 3, 40)
    b = a + rng.normal(0.5, 0.2, 40)
    paired = paired_difference(a, b)
    assert paired.high - paired.low < 0.2 * (mean_interval(b).high - mean_interval(b).low)
    assert paired == paired_difference(a, b)


def test_coverage_is_near_the_confidence(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 499)
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        interval = mean_interval(rng.normal(1, 1, 40))
        hits += interval.low <= 1 <= interval.high
    assert 0.89 <= hits / 200 <= 0.99


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (nan, nan, nan, 0, 0)), ([5.0], (5, nan, nan, 1, 0)), ([5.0] * 9, (5, 5, 5, 9, 0)),
     ([inf, 3, 3], (3, 3, 3, 2, 1)), ([nan, nan], (nan, nan, nan, 0, 2))],
)  # fmt: skip
def test_degenerate_samples(values, expected):
    got = mean_interval(values)
    np.testing.assert_equal((got.mean, got.low, got.high, got.n, got.left_out), expected)


def test_values_that_are_not_finite_follow_the_policy():
    got = paired_difference([20, inf, inf, nan, 10], [21, inf, 30, 25, inf])
    assert (got.n, got.left_out) == (2, 3)  # 20 -> 21 and both infinite
    assert got.mean == pytest.approx(0.5)
    assert got.win_rate == pytest.approx((1 + 0.5 + 0 + 1) / 4)


def test_lower_can_be_better():
    assert paired_difference([0.5, 0.4], [0.4, 0.3], higher_is_better=False).win_rate == 1


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="one length"):
        paired_difference([1, 2], [1])


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6))
def test_interval_holds_the_bulk_of_any_small_sample(values):
    statistics_before, statistics.RESAMPLES = statistics.RESAMPLES, 99
    try:
        got = mean_interval(values)
    finally:
        statistics.RESAMPLES = statistics_before
    assert min(values) - 1e-9 <= got.low <= got.high <= max(values) + 1e-9
