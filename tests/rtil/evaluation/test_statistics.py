import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from rtil.evaluation import statistics
from rtil.evaluation.crossed import spread
from rtil.evaluation.statistics import mean_interval, mean_ratio, paired_difference
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


def table(rng, seeds, images, of_seed, of_image=1.0, rest=0.5):
    noise = rest * rng.normal(size=(seeds, images))
    return of_seed * rng.normal(size=(seeds, 1)) + of_image * rng.normal(size=(1, images)) + noise


@pytest.mark.parametrize(("seeds", "of_seed", "least"), [(2, 0.3, 0.84), (5, 0.3, 0.9), (3, 0.0, 0.93)])
def test_coverage_over_seeds_and_images(seeds, of_seed, least, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 299)
    rng = np.random.default_rng(3)
    hits = [(i := mean_interval(table(rng, seeds, 30, of_seed))).low <= 0 <= i.high for _ in range(150)]
    assert least <= np.mean(hits)
    if of_seed:  # whoever takes seeds for the same picture again has intervals for other pictures alone
        rng = np.random.default_rng(3)
        means = [mean_interval(table(rng, seeds, 30, 2 * of_seed, of_image=0.3).mean(0)) for _ in range(150)]
        assert np.mean([i.low <= 0 <= i.high for i in means]) < 0.5


def test_the_error_of_a_crossed_mean_is_that_of_many_tables():
    rng = np.random.default_rng(4)
    tables = [table(rng, 4, 20, 0.6) for _ in range(3000)]
    true = np.std([one.mean() for one in tables])
    assert np.sqrt(np.mean([spread(one).error ** 2 for one in tables])) == pytest.approx(true, rel=0.05)


def test_one_seed_is_students_paired_test():
    rng = np.random.default_rng(5)
    a, b = rng.normal(20, 3, (2, 25))
    expected = scipy.stats.ttest_rel(b, a)
    got = paired_difference(a, b)
    assert got.p_value == pytest.approx(expected.pvalue)
    assert (got.error, got.freedom) == pytest.approx((np.std(b - a, ddof=1) / 5, expected.df))


def test_an_image_counts_if_it_is_finite_with_every_seed():
    got = mean_interval([[1.0, 2.0, 3.0], [1.0, nan, 5.0]])
    assert (got.mean, got.n, got.left_out) == (2.5, 2, 1)
    assert not got.is_shown
    assert mean_interval(np.arange(8.0)).is_shown


def test_ratio_equals_scipys_bootstrap_of_means_and_covers():
    rng = np.random.default_rng(6)
    errors = np.exp(rng.normal(0, 0.5, 50))
    a, b = 2 * errors * np.exp(rng.normal(0, 0.1, 50)), errors
    got = mean_ratio(a, b)
    expected = scipy.stats.bootstrap(
        (a, b), lambda a, b, axis: np.log(a.mean(axis) / b.mean(axis)), paired=True, n_resamples=9999,
        rng=np.random.default_rng(derive_seed(0, "bootstrap")),
    ).confidence_interval  # fmt: skip
    assert (got.low, got.high) == pytest.approx(tuple(np.exp(expected)))
    assert got.low < 2 < got.high
    assert got.mean == pytest.approx(a.mean() / b.mean())


def test_ratio_of_several_seeds_covers(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 299)
    rng, hits = np.random.default_rng(7), 0
    for _ in range(100):
        errors = np.exp(rng.normal(0, 0.4, (1, 25)))
        a, b = (errors * np.exp(table(rng, 3, 25, 0.1, 0.1, 0.1)) for _ in range(2))
        interval = mean_ratio(2 * a, b)
        hits += interval.low <= 2 <= interval.high
    assert hits >= 90
