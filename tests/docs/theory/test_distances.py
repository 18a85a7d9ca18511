import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest

from docs.theory.distances import Distortions, circulant_variance, measure_distortions
from rtil.errors import UserError
from rtil.inverse.operators import PartialCirculant
from rtil.seeds import generator

SIZE = (1, 4, 4)


def vectors(count, size=SIZE):
    return torch.randn(count, *size, generator=generator(0, "test"))


def test_dense_distortions_follow_chi_squared():
    measured = measure_distortions(vectors(1), [0.25], operators=1000)["dense"][4].values[:, 0]
    assert kstest(measured.numpy() * 4, chi2(4).cdf).pvalue > 1e-3


def test_circulant_distortions_are_those_of_the_operator():
    v = vectors(3)
    measured = measure_distortions(v, [0.25, 0.5], operators=2, seed=7)["circulant"]
    for draw in range(2):
        y = PartialCirculant(SIZE, 0.5, seed=7 + draw).A(v)
        expected = y.square().sum(1) / v.square().sum((1, 2, 3))
        torch.testing.assert_close(measured[8].values[draw], expected)


def test_without_signs_a_constant_is_measured_by_one_number():
    """h * 1 = sum(h) in every row, so the distortion is the square of one normal number."""
    constant = torch.ones(1, *SIZE)
    measured = measure_distortions(constant, [0.5], operators=1000)
    assert kstest(measured["no signs"][8].values[:, 0].numpy(), chi2(1).cdf).pvalue > 1e-3
    assert measured["circulant"][8].deviation < 0.5 * measured["no signs"][8].deviation


def enumerated_variance(vector, m):
    """The formula's expectation over signs by enumeration: mean over all 2^n signs and all pairs of rows."""
    n = len(vector)
    v = vector / np.linalg.norm(vector)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    squared = np.array([np.mean(((signs * v) * np.roll(signs * v, -k, 1)).sum(1) ** 2) for k in range(n)])
    return 2 / m**2 * (m * squared[0] + m * (m - 1) * squared[1:].mean())


@pytest.mark.parametrize("n", [2, 5, 6, 9])
@pytest.mark.parametrize("shape", ["random", "constant", "spike", "opposite spikes"])
def test_variance_formula_equals_enumeration(n, shape):
    vector = {
        "random": np.random.default_rng(0).standard_normal(n),
        "constant": np.ones(n),
        "spike": np.eye(n)[0],
        "opposite spikes": np.eye(n)[0] - np.eye(n)[n // 2],
    }[shape]
    for m in range(1, n + 1):
        variance = circulant_variance(torch.from_numpy(vector), m)
        assert variance == pytest.approx(enumerated_variance(vector, m), rel=1e-12)
        assert 2 / m <= variance * (1 + 1e-12) <= 4 / m * (1 + 1e-9)


def test_measured_variance_is_the_formula():
    v = vectors(1)
    for m, d in measure_distortions(v, [0.25, 1.0], operators=1500)["circulant"].items():
        assert d.mean == pytest.approx(1, abs=4 * d.deviation / math.sqrt(1500))
        assert d.deviation**2 == pytest.approx(circulant_variance(v, m), rel=0.2)
        assert circulant_variance(v, m) > 1.15 * 2 / m


def test_statistics():
    d = Distortions(torch.tensor([[1.0, 1.5], [0.5, 1.0], [0.0, 2.0]]))
    assert d.mean == pytest.approx(1.0)
    assert d.deviation == pytest.approx(np.sqrt((0.25 + 0.25 + 1 + 1) / 6))
    assert d.quantile(0) == 0
    assert d.quantile(1) == 2
    assert d.worst == pytest.approx(0.5)


def test_a_zero_difference_is_refused():
    with pytest.raises(UserError, match="different pictures"):
        measure_distortions(torch.zeros(1, *SIZE), [0.5], operators=1)
