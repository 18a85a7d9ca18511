import pytest
import torch
from scipy import stats

from rtil.errors import UserError
from rtil.inverse.operators import DenseGaussian


def test_equals_the_matrix_product():
    operator = DenseGaussian((3, 5, 4), 0.4, seed=2)
    x = torch.rand(4, 3, 5, 4, dtype=torch.float64)
    matrix = operator.matrix.double().numpy()
    assert matrix.shape == (24, 60)
    torch.testing.assert_close(operator.A(x), torch.from_numpy(x.flatten(1).numpy() @ matrix.T))


def test_entries_are_gaussian_of_variance_one_over_m():
    matrix = DenseGaussian((3, 16, 16), 0.1).matrix.double()
    m, n = matrix.shape
    assert stats.kstest((matrix.flatten() * m**0.5).numpy(), "norm").pvalue > 0.01
    gram = matrix @ matrix.T * m / n
    assert (gram - torch.eye(m, dtype=torch.float64)).abs().max() < 6 / n**0.5, "rows are independent"


def test_measurement_error_estimates_the_mean_squared_error_of_the_picture():
    rng = torch.Generator().manual_seed(0)
    x, other = torch.rand(2, 1, 3, 6, 6, generator=rng)
    operators = [DenseGaussian((3, 6, 6), 0.2, seed) for seed in range(300)]
    estimates = torch.stack([(o.A(x) - o.A(other)).square().sum() / o.error_normaliser for o in operators])
    assert estimates.mean().item() == pytest.approx((x - other).square().mean().item(), rel=0.06)


def test_rows_are_nested_over_rates():
    small, large = (DenseGaussian((1, 5, 5), rate, seed=5).matrix for rate in (0.2, 0.6))
    torch.testing.assert_close(small * 5**0.5, large[:5] * 15**0.5)


def test_large_matrices_are_refused_before_they_are_drawn():
    with pytest.raises(UserError, match=r"is a matrix of 922 MiB, more than 256: use a rate of at most 0.028, or .*cs"):
        DenseGaussian((3, 128, 128), 0.1)
    assert DenseGaussian((3, 32, 32), 0.02).measurement_shape == (61,)
