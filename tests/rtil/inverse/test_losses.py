import math

import pytest
import torch

from rtil import seeds
from rtil.errors import UserError
from rtil.inverse.losses import gaussian_penalty, geodesic, split_heldout
from rtil.inverse.operators import Inpainting, PartialCirculant
from rtil.inverse.operators.foreign import as_operator


def left_half(size):
    """Return what observes the left half of every picture."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[:, : size // 2] = True
    return Inpainting((3, size, size), mask)


class OnlyA:
    def A(self, x):
        return x.flatten(1)[:, ::2]


def pictures(n, size=16, name="x"):
    return torch.rand(n, 3, size, size, generator=seeds.generator(0, "test", name))


def test_error_is_the_mean_squared_error_in_generator_units():
    x, truth = pictures(5), pictures(5, name="truth")
    operator = left_half(16)
    expected = 4 * (x - truth)[..., :8].double().square().flatten(1).mean(1)
    assert torch.allclose(operator.error(x, operator.A(truth)).double(), expected, rtol=1e-6)
    foreign = as_operator(OnlyA(), OnlyA().A(truth), 16)
    expected = 4 * (x - truth).flatten(1)[:, ::2].double().square().mean(1)
    assert torch.allclose(foreign.error(x, foreign.A(truth)).double(), expected, rtol=1e-6)


def test_unobserved_entries_do_not_count_even_when_not_a_number():
    operator, x = left_half(16), pictures(2).requires_grad_()
    y = operator.A(x.detach()) + 0.1
    y[..., 8:] = torch.nan
    error = operator.error(x, y)
    assert torch.allclose(error, torch.full((2,), 0.04))
    (gradient,) = torch.autograd.grad(error.sum(), x)
    assert (gradient[..., 8:] == 0).all()


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_compressed_sensing_errors_estimate_the_pictures(rate):
    x, truth = pictures(1, 32), pictures(1, 32, "truth")
    expected = 4 * (x - truth).square().mean()
    errors = []
    for seed in range(20):
        operator = PartialCirculant((3, 32, 32), rate, seed)
        errors.append(operator.error(x, operator.A(truth)))
    assert torch.stack(errors).mean() == pytest.approx(expected.item(), rel=0.05)


def test_heldout_split_of_rows():
    operator = PartialCirculant((3, 32, 32), 0.3, seed=1)
    x, truth = pictures(1, 32), pictures(1, 32, "truth")
    y = operator.A(truth)
    fit, heldout = split_heldout(operator, y, seed=0)
    m = y.shape[1]
    assert (heldout > 0).sum() == round(0.1 * m)
    assert not ((fit > 0) & (heldout > 0)).any()
    assert ((fit > 0) | (heldout > 0)).all()
    assert fit.sum().item() == pytest.approx(m, rel=1e-5)
    whole = operator.error(x, y)
    assert torch.allclose(operator.error(x, y, fit), whole, rtol=0.1)
    assert torch.allclose(operator.error(x, y, heldout), whole, rtol=0.5)
    again = split_heldout(operator, y, seed=0)
    assert torch.equal(again.fit, fit)
    assert not torch.equal(split_heldout(operator, y, seed=1).fit, fit)


def test_heldout_pixels_are_observed_and_whole():
    operator = left_half(16)
    fit, heldout = split_heldout(operator, operator.A(pictures(2)), seed=0)
    assert (heldout[:, :, 8:] == 0).all()
    assert (fit[:, :, 8:] == 0).all()
    assert torch.equal(heldout[0], heldout[1])
    assert torch.equal(heldout[0], heldout[2])
    assert (heldout[0] > 0).sum() == round(0.1 * 128)


def test_heldout_needs_two_entries():
    with pytest.raises(UserError, match="2 observed"):
        split_heldout(Inpainting((1, 1, 2), torch.tensor([[True, False]])), torch.zeros(1, 1, 1, 2), seed=0)


def geodesic_by_definition(v):
    """PULSE's formula in float64, over all L x L pairs."""
    a, b = v.double()[:, :, None], v.double()[:, None, :]
    minus = ((a - b).square().sum(-1) + 1e-9).sqrt()
    plus = ((a + b).square().sum(-1) + 1e-9).sqrt()
    return (512 * (2 * torch.atan2(minus, plus)).square() / 8).mean((1, 2))


@pytest.mark.parametrize("shape", [(3, 18, 512), (2, 8, 32), (2, 1, 16)])
def test_geodesic_is_the_published_formula(shape):
    v = torch.randn(shape, generator=seeds.generator(0, "test/rows")).requires_grad_()
    value, expected = geodesic(v), geodesic_by_definition(v)
    assert torch.allclose(value.double(), expected, rtol=1e-5, atol=1e-8)
    (gradient,) = torch.autograd.grad(value.sum(), v, retain_graph=True)
    (right,) = torch.autograd.grad(expected.sum(), v)
    assert torch.allclose(gradient, right, atol=1e-4)


def test_geodesic_of_independent_rows_is_149():
    v = torch.randn(16, 18, 512, generator=seeds.generator(0, "test/iid"))
    assert geodesic(v).mean().item() == pytest.approx(64 * (math.pi / 2) ** 2 * 17 / 18, rel=0.01)


def test_geodesic_of_equal_rows_is_zero_and_smooth():
    for row in (torch.randn(1, 1, 64, generator=seeds.generator(0, "test/row")), torch.zeros(1, 1, 64)):
        v = row.repeat(1, 6, 1).requires_grad_()
        value = geodesic(v)
        (gradient,) = torch.autograd.grad(value.sum(), v)
        assert gradient.isfinite().all()
        if row.any():
            assert value.item() < 1e-3


def test_gaussian_penalty():
    z1 = torch.randn(2, 4, 8, 8, generator=seeds.generator(0, "test/z1"))
    assert torch.allclose(gaussian_penalty(z1), 0.5 * z1.square().flatten(1).mean(1))
