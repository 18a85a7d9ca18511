import pytest
import torch
import torch.nn.functional as F

from rtil.ops import pixel_norm
from rtil.seeds import generator as seeded


def unit(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


@pytest.mark.parametrize("slope", [0.2, 1])
@pytest.mark.parametrize("shape", [(2, 5, 3, 3), (3, 4)])
def test_pixel_norm_equals_its_formula_to_second_order(shape, slope):
    x = torch.randn(shape, generator=seeded(0, "test")).double().requires_grad_()
    torch.testing.assert_close(pixel_norm(x, slope), F.leaky_relu(unit(x), slope), rtol=1e-12, atol=1e-12)

    # times x, and with the norm itself used twice, so that all terms of the derivatives occur
    def f(x):
        y = pixel_norm(x, slope)
        return (y * x + pixel_norm(y * y, slope),)

    assert torch.autograd.gradcheck(f, x, check_undefined_grad=False)
    assert torch.autograd.gradgradcheck(f, x, check_undefined_grad=False)


def test_third_derivative_of_pixel_norm_is_refused():
    x = torch.randn(2, 3, generator=seeded(0, "test")).requires_grad_()
    y = pixel_norm(x)
    for _ in range(2):
        (y,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        torch.autograd.grad(y.sum(), x)


def test_pixel_norm_of_bfloat16_is_off_by_two_roundings():
    x = torch.randn(4, 512, 4, 4, generator=seeded(0, "test")).bfloat16() * 1e-3
    y = pixel_norm(x)
    assert y.dtype == torch.bfloat16
    assert (y.double() / unit(x.double()) - 1).abs().max() < 1.01 * 2**-7


@pytest.mark.parametrize("slope", [0.2, 1])
def test_pixel_norm_of_nothing_is_nothing(slope):
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    y = pixel_norm(x, slope)
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    assert not y.any()
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(second).all()


def test_the_reference_tier_agrees_to_second_order(monkeypatch):
    x = torch.randn(2, 5, 3, 3, generator=seeded(0, "test")).double().requires_grad_()

    def derivatives():
        y = pixel_norm(x, 0.2)
        (first,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        return y, first, second

    native = derivatives()
    monkeypatch.setenv("RTIL_OPS", "ref")
    for ours, ref in zip(native, derivatives(), strict=True):
        torch.testing.assert_close(ours, ref)
