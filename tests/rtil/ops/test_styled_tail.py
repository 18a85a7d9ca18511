import pytest
import torch

from rtil.ops import Drawn, counter_normal, fir_filter, materialise, no_weight_gradients, styled_tail, upfirdn2d
from tests.rtil.ops.helpers import LAYOUTS, TYPES, assert_close_to_ref, derivatives, draw, lay, relative

WITHIN = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 0.02 / 8, torch.bfloat16: 0.02}
FIR = fir_filter((1, 2, 4, 1))
SIGMA = torch.tensor([0.0, 1.5])


def arguments(shape, fir, dtype=torch.float64, noise_maps=2):
    """x, b, d, noise, strength, z1; biases of both signs far from the kink, which rounding would cross."""
    N, C, H, W = shape
    wide = torch.promote_types(dtype, torch.float32)
    x = draw(N, C, H + 1, W + 1) if fir else draw(*shape)
    b = 8 * draw(C, seed=1).sign() + draw(C, seed=1)
    d, noise, strength = draw(N, C, seed=2).abs(), draw(noise_maps, 1, H, W, seed=3), draw(seed=4)
    return x.to(dtype), *(t.to(wide) for t in (b, d, noise, strength)), draw(*shape, seed=5).to(dtype)


@pytest.mark.parametrize("fir", [None, FIR])
def test_equals_its_formula(tier, fir):
    x, b, d, noise, strength, z1 = arguments((2, 3, 4, 6), fir is not None)
    u = x if fir is None else upfirdn2d(x, fir, padding=1, gain=4)
    pre = u * d[:, :, None, None] + strength * noise + b[:, None, None]
    y = styled_tail(x, b, fir=fir, d=d, noise=noise, strength=strength)
    want = 2**0.5 * torch.where(pre > 0, pre, 0.2 * pre)
    torch.testing.assert_close(y, want, rtol=1e-12, atol=1e-12)
    y = styled_tail(x, b, fir=fir, d=d, noise=noise, strength=strength, z1=z1)
    torch.testing.assert_close(y, want + z1, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fir", [None, FIR])
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 18, 8, 4)])
def test_tiers_agree_to_second_order(fast, shape, fir, layout, dtype):
    x, b, d, noise, strength, z1 = arguments(shape, fir is not None, dtype)
    assert_close_to_ref(
        lambda x, b, d, noise, strength, z1: styled_tail(
            x, b, fir=fir, d=d, noise=noise, strength=strength, z1=z1
        ),
        lay(x, layout),
        b,
        d,
        noise,
        strength,
        lay(z1, layout),
        within=WITHIN[dtype],
    )  # fmt: skip


@pytest.mark.parametrize("fir", [None, FIR, fir_filter((1, 2, 1))])
@pytest.mark.parametrize("noise_maps", [1, 2])
def test_gradients_of_first_and_second_order(tier, fir, noise_maps):
    tensors = [t.requires_grad_() for t in arguments((2, 2, 2, 4), fir is not None, noise_maps=noise_maps)]

    def f(x, b, d, noise, strength, z1):
        return styled_tail(x, b, fir=fir, d=d, noise=noise, strength=strength, z1=z1)

    assert torch.autograd.gradcheck(f, tensors)
    assert torch.autograd.gradgradcheck(f, tensors)


@pytest.mark.parametrize("z1", [False, True])
def test_the_gradient_of_one_tensor_alone_is_that_of_it_among_others(tier, z1):
    names = ("x", "b", "d", "noise", "strength", "z1")[: 5 + z1]
    used = dict(zip(names, arguments((2, 3, 4, 4), True)[: len(names)], strict=True))

    def gradients(wanted):
        leaves = {name: t.clone().requires_grad_(name in wanted) for name, t in used.items()}
        y = styled_tail(**leaves, fir=FIR).square().sum()
        return dict(zip(wanted, torch.autograd.grad(y, [leaves[name] for name in wanted]), strict=True))

    together = gradients(list(used))
    for name in used:
        torch.testing.assert_close(gradients([name])[name], together[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("sigma", [None, SIGMA])
def test_what_is_drawn_inside_equals_what_is_drawn_before(tier, sigma, layout, dtype):
    """Forward, backward and second order see the same numbers, and so does a second run."""
    shape = (2, 6, 4, 8)
    x, b, d, _, strength, _ = arguments(shape, True, dtype)
    x = lay(x, layout)

    def run(noise, z1):
        return derivatives(
            lambda x, b, d, strength: styled_tail(x, b, fir=FIR, d=d, noise=noise, strength=strength, z1=z1),
            *(x, b, d, strength),
        )

    noise, z1 = Drawn(2**63 + 3), Drawn(4, sigma)
    tensors = counter_normal((2, 1, 4, 8), noise.key), materialise(z1, shape, x)
    for drawn, given in zip(run(noise, z1), run(*tensors), strict=True):
        assert relative(drawn, given) < max(WITHIN[dtype], 1e-6)
    assert all(torch.equal(a, b) for a, b in zip(run(noise, z1), run(noise, z1), strict=True))


def test_noise_can_have_a_deviation_of_its_own(tier):
    x, b, d, _, strength, _ = arguments((2, 3, 4, 4), False)
    y = styled_tail(x, b, d=d, noise=Drawn(1, SIGMA), strength=strength)
    noise = counter_normal((2, 1, 4, 4), 1).double() * SIGMA[:, None, None, None]
    torch.testing.assert_close(y, styled_tail(x, b, d=d, noise=noise, strength=strength), rtol=1e-6, atol=1e-6)


def test_without_weight_gradients_those_of_maps_and_styles_stay(ext):
    x, b, d, noise, strength, _ = (t.requires_grad_() for t in arguments((2, 3, 4, 4), True))

    def run():
        return styled_tail(x, b, fir=FIR, d=d, noise=noise, strength=strength).square().sum()

    whole, y = torch.autograd.grad(run(), (x, d, noise, b, strength)), run()
    with no_weight_gradients():
        some = torch.autograd.grad(y, (x, d, noise, b, strength), allow_unused=True)
    for ours, theirs in zip(some[:3], whole[:3], strict=True):
        assert torch.equal(ours, theirs)
    assert some[3] is None
    assert some[4] is None
