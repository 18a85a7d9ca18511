import numpy as np
import pytest
import scipy.linalg
import torch

from rtil.quality.distances import distances, frechet, kernel, precision_recall


def gaussian(n, seed, shift=0.0, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(9))
    return scale * torch.randn(n, 6, generator=rng) @ mixing + shift


def test_frechet_distance_agrees_with_scipy():
    a, b = gaussian(400, 0), gaussian(300, 1, shift=0.5, scale=1.3)
    m, S = a.double().mean(0).numpy(), np.cov(a.double().numpy().T)
    n, T = b.double().mean(0).numpy(), np.cov(b.double().numpy().T)
    expected = ((m - n) ** 2).sum() + np.trace(S + T - 2 * scipy.linalg.sqrtm(S @ T).real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-5)


def test_kernel_distance_is_the_unbiased_mmd_and_leaves_the_global_generator_alone():
    a, b = gaussian(200, 0), gaussian(200, 1, shift=0.5)

    def k(x, y):
        return ((x.double() @ y.double().T) / x.shape[1] + 1) ** 3

    n = len(a)
    within = sum((k(x, x).sum() - k(x, x).trace()) / (n * (n - 1)) for x in (a, b))
    state = torch.get_rng_state()
    assert kernel(a, b) == pytest.approx(float(within - 2 * k(a, b).mean()), rel=1e-4)  # subsets are the whole sets
    assert torch.equal(torch.get_rng_state(), state)


def test_precision_and_recall_agree_with_their_definition():
    fakes, reals = gaussian(30, 0), gaussian(30, 1, shift=1.0)

    def inside(points, of):
        def radius(x):
            return sorted(float((x - y).norm()) for y in of)[3]  # the first is x itself

        return sum(any(float((p - x).norm()) <= radius(x) for x in of) for p in points) / len(points)

    assert precision_recall(fakes, reals) == pytest.approx((inside(fakes, reals), inside(reals, fakes)))


def test_samples_that_are_all_the_same_have_precision_without_recall_or_spread():
    reals = gaussian(500, 0)
    fakes = reals[:1] + 1e-3 * gaussian(500, 1)
    found = distances(fakes, reals)
    assert found.precision == 1
    assert found.recall < 0.05
    assert found.spread < 1e-4
    assert found.frechet > distances(gaussian(500, 2), reals).frechet
