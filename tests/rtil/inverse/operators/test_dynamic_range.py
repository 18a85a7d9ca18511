import torch

from rtil.inverse.operators import HighDynamicRange
from rtil.ranges import to_signed


def test_in_generator_units_it_is_clipped_doubling():
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = HighDynamicRange((3, 8, 8)).A(x)
    torch.testing.assert_close(to_signed(y), (2 * to_signed(x)).clamp(-1, 1))


def test_error_of_uniform_greys_estimates_that_of_the_picture():
    x = torch.rand(1, 3, 200, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    operator, e = HighDynamicRange((3, 200, 200)), 1e-4
    squares = (operator.A(x + e) - operator.A(x)).square().sum() / operator.error_normaliser
    torch.testing.assert_close(squares / e**2, torch.ones_like(squares), rtol=0.02, atol=0)


def test_what_is_clipped_has_no_gradient():
    operator, x = HighDynamicRange((1, 1, 3)), torch.tensor([[[[0.1, 0.5, 0.9]]]])
    assert operator.A_vjp(x, torch.ones(1, 1, 1, 3)).flatten().tolist() == [0, 2, 0]
