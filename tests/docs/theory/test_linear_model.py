import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.theory.linear_model import (
    draw_model,
    draw_sensing,
    expected_error,
    gradient_descent,
    minimum_norm_weights,
    monte_carlo_error,
    recover,
    vanilla_error,
    vanilla_error_bounds,
)
from rtil.errors import UserError

SIZES = (5, 12, 40)
M = 20


@st.composite
def problems(draw):
    """Sizes n0 < n1 < nd, a number of measurements m with n0 <= m < nd, and a seed."""
    n0 = draw(st.integers(1, 6))
    n1 = draw(st.integers(n0 + 1, 14))
    nd = draw(st.integers(n1 + 1, 30))
    return (n0, n1, nd), draw(st.integers(n0, nd - 1)), draw(st.integers(0, 2**31))


def whitened(n, count, seed):
    """Samples [n, count] whose empirical second moment is exactly the identity."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((count, n)))
    return q.T * np.sqrt(count)


def least_squares_error(W, model, A, z0, z1):
    """Two-step recovery sample by sample with LAPACK's minimum-norm least squares."""
    W, W0, W1, A = (t.numpy() for t in (W, model.W0, model.W1, A))
    x = W1 @ (W0 @ z0 + z1)
    z0_hat = scipy.linalg.lstsq(A @ W @ W0, A @ x, cond=1e-9)[0]
    z1_hat = scipy.linalg.lstsq(A @ W, A @ x - A @ W @ W0 @ z0_hat, cond=1e-9)[0]
    return W @ (W0 @ z0_hat + z1_hat), x


@pytest.mark.parametrize("training", ["vanilla", "rtil"])
def test_weights_are_those_of_minimum_norm_regression(training):
    model = draw_model(*SIZES, seed=1)
    z = whitened(5 + 12, 200, seed=0)
    W0, W1 = model.W0.numpy(), model.W1.numpy()
    x = W1 @ (W0 @ z[:5] + z[5:])
    seen = W0 @ z[:5] + (z[5:] if training == "rtil" else 0)
    expected = np.linalg.lstsq(seen.T, x.T, rcond=1e-9)[0].T
    np.testing.assert_allclose(minimum_norm_weights(model, training).numpy(), expected, atol=1e-10)


def test_lemma_5_1():
    model = draw_model(*SIZES, seed=2)
    vanilla, rtil = minimum_norm_weights(model, "vanilla"), minimum_norm_weights(model, "rtil")
    torch.testing.assert_close(vanilla @ model.W0, model.W1 @ model.W0)
    torch.testing.assert_close(rtil, model.W1)
    off_range = torch.from_numpy(scipy.linalg.null_space(model.W0.T.numpy()))
    assert (vanilla @ off_range).abs().max() < 1e-12
    assert (model.W1 @ off_range).abs().max() > 0.1


@pytest.mark.parametrize("training", ["vanilla", "rtil"])
def test_gradient_descent_from_zero_finds_the_closed_form(training):
    model = draw_model(*SIZES, seed=3)
    W = gradient_descent(model, training)
    torch.testing.assert_close(W, minimum_norm_weights(model, training), atol=1e-9, rtol=0)


def test_gradient_descent_keeps_what_its_start_has_off_the_range():
    model = draw_model(*SIZES, seed=4)
    start = torch.ones_like(model.W1)
    off_range = torch.from_numpy(scipy.linalg.null_space(model.W0.T.numpy()))
    vanilla = gradient_descent(model, "vanilla", start)
    torch.testing.assert_close(vanilla @ model.W0, model.W1 @ model.W0)
    torch.testing.assert_close(vanilla @ off_range, start @ off_range)
    torch.testing.assert_close(gradient_descent(model, "rtil", start), model.W1)
    assert start.eq(1).all()


def test_gradient_descent_says_when_it_does_not_converge():
    with pytest.raises(UserError, match="3 steps"):
        gradient_descent(draw_model(*SIZES), "vanilla", max_steps=3)


@pytest.mark.parametrize("training", ["vanilla", "rtil"])
@pytest.mark.parametrize("m", [7, 12, 20])
def test_recovery_equals_two_least_squares_problems(training, m):
    model, A = draw_model(*SIZES, seed=5), draw_sensing(m, 40, seed=5)
    W = minimum_norm_weights(model, training)
    z = whitened(17, 30, seed=1)
    expected, x = least_squares_error(W, model, A, z[:5], z[5:])
    recovered = recover(W, model.W0, A, torch.from_numpy(x.T) @ A.T)
    np.testing.assert_allclose(recovered.numpy(), expected.T, atol=1e-9)


def test_recovery_finds_the_solution_nearest_to_the_start():
    model, A = draw_model(*SIZES, seed=6), draw_sensing(8, 40, seed=6)
    y, start = torch.randn(1, 8, dtype=torch.float64), torch.randn(1, 12, dtype=torch.float64)
    S = A @ model.W1
    z0 = torch.linalg.lstsq(S @ model.W0, y.T).solution
    z1 = start.T.clone()
    step = 1 / torch.linalg.matrix_norm(S, 2) ** 2
    for _ in range(20_000):
        z1 -= step * S.T @ (S @ (model.W0 @ z0 + z1) - y.T)
    expected = (model.W1 @ (model.W0 @ z0 + z1)).T
    torch.testing.assert_close(recover(model.W1, model.W0, A, y, start), expected, atol=1e-7, rtol=0)


def test_equation_8_agrees_with_monte_carlo():
    model, A = draw_model(*SIZES, seed=7), draw_sensing(M, 40, seed=7)
    mean, error = monte_carlo_error(minimum_norm_weights(model, "vanilla"), model, A, 20_000)
    assert error < 0.01 * mean
    assert abs(mean - vanilla_error(model, A)) < 4 * error


@pytest.mark.parametrize("training", ["vanilla", "rtil"])
@pytest.mark.parametrize("m", [6, 9, 12, 30])
def test_expected_error_agrees_with_monte_carlo(training, m):
    """Below n1 measurements the start of z1 matters too."""
    model, A = draw_model(*SIZES, seed=8), draw_sensing(m, 40, seed=8)
    W = minimum_norm_weights(model, training)
    mean, error = monte_carlo_error(W, model, A, 20_000)
    assert abs(mean - expected_error(W, model, A)) < 4 * error + 1e-20


def test_expected_error_counts_the_noise():
    model, A = draw_model(*SIZES, seed=9), draw_sensing(M, 40, seed=9)
    noise = 0.3 * torch.randn(20_000, M, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = recover(model.W1, model.W0, A, noise).square().sum(1)
    assert float(errors.mean()) == pytest.approx(expected_error(model.W1, model, A, 0.09), rel=0.03)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_equation_8_and_its_bounds(problem):
    (n0, n1, nd), m, seed = problem
    model, A = draw_model(n0, n1, nd, seed), draw_sensing(m, nd, seed)
    error, (frobenius, spectral) = vanilla_error(model, A), vanilla_error_bounds(model)
    W = minimum_norm_weights(model, "vanilla")
    assert error == pytest.approx(expected_error(W, model, A), rel=1e-6)
    assert 0 < spectral <= frobenius * (1 + 1e-9)
    assert frobenius <= error * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_spectral_bound_is_the_maximum_over_unit_directions_off_the_range(problem):
    """Equation 8's right side, over an orthonormal basis of the complement of range(W0)."""
    (n0, n1, nd), _, seed = problem
    model = draw_model(n0, n1, nd, seed)
    h = scipy.linalg.null_space(model.W0.T.numpy())
    q, _ = np.linalg.qr((model.W1 @ model.W0).numpy())
    W1h = model.W1.numpy() @ h
    expected = np.linalg.svd(W1h - q @ (q.T @ W1h), compute_uv=False)[0] ** 2
    assert vanilla_error_bounds(model)[1] == pytest.approx(expected, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_equation_9_holds_from_n1_measurements_on_and_not_below(problem):
    (n0, n1, nd), m, seed = problem
    model, A = draw_model(n0, n1, nd, seed), draw_sensing(m, nd, seed)
    W = minimum_norm_weights(model, "rtil")
    share = expected_error(W, model, A) / model.signal_energy
    conditioning = torch.linalg.cond(A @ W) if m >= n1 else 1
    if m >= n1:
        assert share < 1e-20 * conditioning**2
    else:
        assert share > 1e-6


def test_size_of_the_errors():
    """An independent draw at these sizes: vanilla 391.9, Frobenius bound 254.6, spectral bound 58.2."""
    draws = []
    for seed in range(100):
        model = draw_model(*SIZES, seed=seed)
        draws.append([vanilla_error(model, draw_sensing(M, 40, seed)), *vanilla_error_bounds(model)])
    low, high = np.quantile(draws, [0.01, 0.99], axis=0)
    assert (low < [391.9, 254.6, 58.2]).all()
    assert (high > [391.9, 254.6, 58.2]).all()


def test_layers_are_standard_normal():
    values = torch.cat([draw_model(*SIZES, seed=seed).W0.flatten() for seed in range(300)])
    assert scipy.stats.kstest(values.numpy(), "norm").pvalue > 1e-3


def test_sizes_must_grow():
    with pytest.raises(UserError, match=r"\(5, 5, 40\)"):
        draw_model(5, 5, 40)


def test_unknown_training():
    with pytest.raises(UserError, match="valid are vanilla, rtil"):
        minimum_norm_weights(draw_model(*SIZES), "rtl")
