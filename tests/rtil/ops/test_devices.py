"""The operations on a GPU against ``ref`` in float64; on the processor only so much that these tests are tested.

Other tests here try more shapes, on the processor. Every test's name has its device and tier: ``-k cuda``.
"""

from functools import partial
from itertools import product

import pytest
import torch

from rtil import ops
from rtil.generators import StyleGAN2Generator
from rtil.ops import Drawn
from rtil.ops.selftest import using_tier
from rtil.seeds import generator as seeded
from tests.rtil.ops.helpers import LAYOUTS, assert_close_to_ref, derivatives, draw, lay, relative

FIR = ops.fir_filter()
WITHIN = {torch.float64: 1e-9, torch.float32: 5e-3, torch.float16: 0.06 / 8, torch.bfloat16: 0.06}  # float32: TF32
DRAWN_WITHIN = 1e-5  # draws are float32
PLACES = [("cpu", "native"), ("cuda", "native"), ("cuda", "ext")]
MAPS = [(2, 5, 9, 11), (1, 3, 4, 4), (2, 70, 17, 33), (3, 8, 65, 67)]
AWAY_FROM_0 = 8  # bias of the activations, so that rounding takes no map to the other side of the leaky ReLU


@pytest.fixture(params=PLACES, ids=["cpu-native", "cuda-native", "cuda-ext"])
def device(request, monkeypatch):
    name, tier = request.param
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    monkeypatch.setenv("RTIL_OPS", tier)
    return torch.device(name)


def on(device, function):
    """Return the function computed on a device, of inputs that stay where they are."""
    return lambda *inputs: function(*(x.to(device) for x in inputs)).cpu()


def grid(device):
    """Return the types and layouts to try."""
    if device.type == "cpu":
        return [(torch.float32, "NHWC")]
    return list(product(WITHIN, LAYOUTS))


@pytest.mark.parametrize(
    ("up", "down", "pad", "separable"),
    [
        (1, 1, (1, 1, 1, 1), True),
        (2, 1, (2, 1, 2, 1), True),
        (1, 2, (1, 1, 1, 1), True),
        (1, 2, (2, -1, 0, 3), False),
        ((2, 3), (1, 2), (3, 0, -1, 4), False),
    ],
)
def test_upfirdn2d(device, up, down, pad, separable):
    f = ops.fir_filter((1, 2, 4, 1))
    f = (f if separable else f[:, None] * FIR[None, :]).to(device)
    function = partial(ops.upfirdn2d, f=f, up=up, down=down, padding=pad, flip=not separable, gain=3.0)
    for (dtype, layout), shape in product(grid(device), MAPS):
        assert_close_to_ref(on(device, function), lay(draw(*shape).to(dtype), layout), within=WITHIN[dtype])


def test_bias_act(device):
    for (dtype, layout), shape in product(grid(device), MAPS):
        b = AWAY_FROM_0 * (-1.0) ** torch.arange(shape[1], dtype=torch.float64)
        inputs = (lay(draw(*shape).to(dtype), layout), b.to(torch.promote_types(dtype, torch.float32)))
        assert_close_to_ref(on(device, ops.bias_act), *inputs, within=WITHIN[dtype])


@pytest.mark.parametrize("fir", [False, True], ids=["plain", "fir"])
@pytest.mark.parametrize("drawn", [False, True], ids=["given", "drawn"])
def test_styled_tail(device, fir, drawn):
    for (dtype, layout), (N, C, H, W) in product(grid(device), MAPS):
        wide = torch.promote_types(dtype, torch.float32)
        x = lay(draw(N, C, H + fir, W + fir).to(dtype), layout)
        b = AWAY_FROM_0 * (-1.0) ** torch.arange(C, dtype=wide)
        inputs = [x, b, draw(N, C, seed=3).abs().to(wide)]
        strength, sigma = draw(seed=4).to(wide), torch.arange(N, dtype=torch.float32)
        if dtype == wide:  # its second derivative is one number, to which large ones cancel
            inputs.append(strength)
        if not drawn:
            inputs += [draw(N, 1, H, W, seed=5).to(wide), lay(draw(N, C, H, W, seed=6).to(dtype), layout)]

        def tail(x, b, d, *rest, dtype=dtype, wide=wide, strength=strength, sigma=sigma):
            strength, *rest = rest if dtype == wide else (strength.to(d), *rest)
            noise, z1 = rest or (Drawn(11), Drawn(12, sigma.to(device)))
            taps = FIR.to(device) if fir else None
            return ops.styled_tail(x, b, fir=taps, d=d, noise=noise, strength=strength, z1=z1)

        within = max(WITHIN[dtype], DRAWN_WITHIN) if drawn else WITHIN[dtype]
        assert_close_to_ref(on(device, tail), *inputs, within=within)


@pytest.mark.parametrize("function", [partial(ops.conv2d, padding=1), partial(ops.conv_transpose2d, stride=2)])
def test_convolutions(device, function):
    for dtype, layout in grid(device):
        x, w = lay(draw(4, 16, 16, 16).to(dtype), layout), (draw(16, 16, 3, 3, seed=1) / 12).to(dtype)
        assert_close_to_ref(on(device, function), x, w, within=WITHIN[dtype])


def test_draws_are_those_of_every_device(device):
    with using_tier("ref"):
        exact = ops.counter_normal((3, 1001), 2**63 + 5)
    torch.testing.assert_close(ops.counter_normal((3, 1001), 2**63 + 5, device).cpu(), exact, rtol=1e-4, atol=1e-5)


def test_the_same_bits_every_time(device):
    """Sums have one order; their inputs are large enough for many blocks."""
    x, b, d = (
        draw(4, 64, 65, 65).to(device, torch.bfloat16),
        draw(64).float().to(device),
        draw(4, 64).float().to(device),
    )

    def tail(x, b, d, strength):
        return ops.styled_tail(x, b, fir=FIR.to(device), d=d, noise=Drawn(1), strength=strength)

    inputs = [lay(x, "NHWC"), b, d, torch.tensor(0.5, device=device)]
    leaves = [t.requires_grad_() for t in inputs]
    first, second = (torch.autograd.grad(tail(*leaves).float().square().sum(), leaves) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_network(device, dtype):
    """Picture and gradients of weights through all layers, z1 drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = StyleGAN2Generator(16, {4: 16, 8: 16, 16: 8}, 16, 16, 2)
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    rng = seeded(0, "test")
    z, noise = G.draw_z(4, rng), G.draw_noise(4, rng)
    found = []
    for where, tier in (("cpu", "ref"), (device, None)):
        G.to(where)
        z1 = {2: Drawn(5, torch.tensor([0.0, 1.0, 1.0, 0.0], device=where))}

        def picture(where=where, z1=z1):
            return G(G.mapping(z.to(where)), [maps.to(where) for maps in noise], z1)

        weights = [G.blocks[1].conv0.weight, G.blocks[2].conv1.bias, G.blocks[0].const]
        if tier is None:
            with G.computing_in(dtype):
                image = picture()
                slopes = torch.autograd.grad(image.square().mean(), weights)
        else:
            with using_tier(tier):
                image = picture()
                slopes = torch.autograd.grad(image.square().mean(), weights)
        found.append([image.detach().cpu(), *(slope.cpu() for slope in slopes)])
    errors = [relative(ours, exact) for exact, ours in zip(*found, strict=True)]
    assert max(errors) < (5e-3 if dtype is None else 0.1), errors


def test_helpers_see_a_wrong_derivative():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.square()

        @staticmethod
        def backward(ctx, g):
            return g

    x = draw(2, 3, 4, 4)
    right, wrong = derivatives(torch.square, x), derivatives(Wrong.apply, x)
    assert relative(wrong[0], right[0]) == 0
    assert relative(wrong[1], right[1]) > 0.5
