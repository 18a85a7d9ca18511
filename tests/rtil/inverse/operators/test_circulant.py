import time

import pytest
import torch

from rtil.errors import UserError
from rtil.inverse.operators import PartialCirculant


def circulant_matrix(operator: PartialCirculant) -> torch.Tensor:
    """Rows of the circulant matrix by index arithmetic alone: A[i, j] = h[(row_i - j) mod n] * s[j]."""
    n = operator.n
    h = torch.fft.irfft(torch.view_as_complex(operator.spectrum.double()), n=n)
    index = (operator.rows[:, None] - torch.arange(n)[None, :]) % n
    return h[index] * operator.signs


@pytest.mark.parametrize("img_size", [(3, 4, 4), (1, 5, 5), (3, 3, 7), (1, 1, 1), (1, 1, 2)])
@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_equals_the_dense_matrix(img_size, rate):
    operator = PartialCirculant(img_size, rate, seed=1)
    matrix = circulant_matrix(operator)
    x = torch.rand(4, *img_size, dtype=torch.float64)
    y = operator.A(x)
    torch.testing.assert_close(y, x.flatten(1) @ matrix.T, atol=1e-12, rtol=0)
    torch.testing.assert_close(operator.A_adjoint(y).flatten(1), y @ matrix, atol=1e-12, rtol=0)


@pytest.mark.parametrize("rate", [0.05, 0.25, 1.0])
def test_energy_is_kept_on_average(rate):
    """E ||A x||^2 = ||x||^2 over operators, for a flat picture as well as a rough one."""
    pictures = torch.stack([torch.ones(3, 6, 6), torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))])
    energy = torch.stack(
        [PartialCirculant((3, 6, 6), rate, seed).A(pictures).square().sum(1) for seed in range(600)]
    ) / pictures.square().sum((1, 2, 3))
    standard_error = energy.std(0) / 600**0.5
    assert ((energy.mean(0) - 1).abs() < 4 * standard_error).all()
    assert standard_error.max() < 0.03


def test_measurement_error_estimates_the_mean_squared_error_of_the_picture():
    rng = torch.Generator().manual_seed(0)
    x, other = torch.rand(2, 1, 3, 8, 8, generator=rng)
    mse_in_generator_units = 4 * (x - other).square().mean().item()
    operators = [PartialCirculant((3, 8, 8), 0.2, seed) for seed in range(400)]
    estimates = [4 * (o.A(x) - o.A(other)).square().sum() / o.error_normaliser for o in operators]
    assert torch.stack(estimates).mean().item() == pytest.approx(mse_in_generator_units, rel=0.05)


def test_rows_are_distinct_and_nested_over_rates():
    small, large = (PartialCirculant((3, 8, 8), rate, seed=5) for rate in (0.1, 0.25))
    assert len(small.rows.unique()) == len(small.rows) == 19
    assert torch.isin(small.rows, large.rows).all()
    assert torch.equal(small.signs, large.signs)


def test_signs_are_balanced():
    signs = PartialCirculant((3, 32, 32), 0.1).signs
    assert set(signs.tolist()) == {-1, 1}
    assert signs.double().mean().abs() < 4 / 3072**0.5


def test_converting_to_float32_keeps_the_imaginary_part():
    operator = PartialCirculant((1, 4, 4), 0.5)
    x = torch.rand(2, 1, 4, 4)
    assert torch.equal(PartialCirculant((1, 4, 4), 0.5).to(torch.float32).A(x), operator.A(x))


def test_step_takes_milliseconds():
    operator = PartialCirculant((3, 32, 32), 0.1)
    x = torch.rand(64, 3, 32, 32, requires_grad=True)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        torch.autograd.grad(operator.A(x).square().sum(), x)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05  # 2 ms on one quiet core


@pytest.mark.parametrize("rate", [0, -0.1, 1.01, 10, float("nan"), float("inf")])
def test_bad_rate(rate):
    with pytest.raises(UserError, match=r"rate is .*valid is 0 < rate <= 1"):
        PartialCirculant((3, 8, 8), rate)
