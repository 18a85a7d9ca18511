"""The compiled kernels against float64 references made of plain torch operations."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.ops import extension
from rtil.ops.build import BuildError
from rtil.ops.plan import Plan, after_up_convolution
from rtil.ops.upfirdn2d import _ref

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
SIZES = [(2, 5, 1, 1), (1, 3, 5, 7), (2, 16, 9, 4), (1, 37, 6, 13), (2, 40, 17, 17)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
TAPS = torch.tensor([1.0, 3, 3, 1]) / 8


@pytest.fixture(scope="module")
def ops():
    try:
        extension.load()
    except BuildError as error:
        pytest.skip(f"no compiled operations: {error}")
    return torch.ops.rtil


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(seed, shape, dtype, layout):
    return draw(seed, *shape).to(dtype).contiguous(memory_format=layout)


def close(got: Tensor, want: Tensor, dtype: torch.dtype, scale: float = 1.0):
    """Rounding of the result's own type, and of float32 sums where it is half as wide."""
    tolerance = TOLERANCE[dtype] * scale
    torch.testing.assert_close(got.double(), want.double(), rtol=tolerance, atol=tolerance)


PLANS = [
    Plan((1, 1), (1, 1), (1, 2, 2, 1), False, 1.0),
    Plan((1, 1), (1, 1), (6, 6, 6, 6), True, 0.7),
    Plan((2, 2), (1, 1), (2, 1, 2, 1), False, 4.0),
    Plan((2, 2), (1, 1), (3, 3, 1, 2), True, 4.0),
    Plan((1, 1), (2, 2), (3, 2, 1, 4), False, 1.0),
    Plan((1, 1), (2, 2), (2, 1, 2, 2), True, 1.0),
    Plan((2, 1), (1, 2), (0, 3, 3, 2), True, 1.5),
    Plan((3, 2), (2, 3), (3, 4, 5, 2), False, 2.0),
    Plan((1, 1), (1, 1), (-1, 4, 4, 0), False, 1.0),
    Plan((2, 2), (1, 1), (-1, 5, 6, -1), False, 1.0),
]
FILTERS = [
    TAPS,
    torch.tensor([0.1, 0.7, -0.3]),
    torch.tensor([1.0]),
    torch.arange(1.0, 11) / 50,
    TAPS[:, None] * torch.tensor([[0.5, 0.2, 0.1]]),
    torch.arange(12.0).reshape(4, 3).cos(),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_upfirdn2d(ops, dtype, layout):
    compared = 0
    for shape in SIZES:
        x = maps(1, shape, dtype, layout)
        for f in FILTERS:
            for plan in PLANS:
                if min(plan.output_size(*shape[2:], f)) < 1:
                    continue
                y = ops.upfirdn2d(x, f, *plan)
                assert y.dtype == dtype
                assert shape[2] == 1 or y.is_contiguous(memory_format=layout)
                close(y, _ref(x.double(), f.double(), plan), dtype, scale=4)
                compared += 1
    assert compared > 150


def test_upfirdn2d_of_a_wide_map_goes_by_tiles(ops):
    x = draw(0, 1, 3000, 3, 21).contiguous(memory_format=torch.channels_last)
    for up, down in ((1, 1), (2, 1), (1, 2)):
        plan = Plan((up, up), (down, down), (2, 1, 2, 1), False, 1.0)
        close(ops.upfirdn2d(x, TAPS, *plan), _ref(x, TAPS.double(), plan), x.dtype)
    x = draw(0, 1, 1, 3, 9001)
    for up, down in ((1, 1), (2, 1), (1, 2)):
        plan = Plan((up, up), (down, down), (1, 2, 2, 1), False, 1.0)
        close(ops.upfirdn2d(x, TAPS, *plan), _ref(x, TAPS.double(), plan), x.dtype)


def test_any_strides(ops):
    x = draw(0, 3, 4, 8, 10)
    for view in (x.transpose(0, 1), x[:, :, ::2, 1:], x.transpose(2, 3), x[:1].expand(3, -1, -1, -1)):
        want = ops.upfirdn2d(view.contiguous(), TAPS, *PLANS[0])
        assert torch.equal(ops.upfirdn2d(view, TAPS, *PLANS[0]), want)
        assert torch.equal(ops.bias_act(view, None, 0.2, 1.0), F.leaky_relu(view, 0.2))
        b = draw(1, view.shape[1])
        want = ops.styled_tail(view.contiguous(), None, None, None, None, b, None, None, 0, 0, 0.2, 1.0)
        assert torch.equal(ops.styled_tail(view, None, None, None, None, b, None, None, 0, 0, 0.2, 1.0), want)


def factors(pre: Tensor, slope: float, gain: float) -> Tensor:
    return gain * (slope + (1 - slope) * (pre > 0).double())


def bias_act(x, b, slope, gain):
    return F.leaky_relu(x + b.reshape(1, -1, *[1] * (x.ndim - 2)), slope) * gain


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(4, 7), (3, 512), (2, 3, 5), *SIZES, (1, 3, 2, 2, 3), (2, 3000), (1, 300, 5, 9)])
def test_bias_act_and_its_gradient(ops, dtype, shape):
    for layout in LAYOUTS if len(shape) == 4 else LAYOUTS[:1]:
        for slope, gain in ((0.2, math.sqrt(2)), (1.0, 1.0), (0.0, 1.5)):
            x, g = (maps(seed, shape, dtype, layout) for seed in (0, 1))
            b = draw(2, shape[1]).to(torch.promote_types(dtype, torch.float32))
            y = ops.bias_act(x, b, slope, gain)
            assert y.stride() == x.stride()
            close(y, bias_act(x.double(), b.double(), slope, gain), dtype)
            close(ops.bias_act_grad(g, y, slope, gain), g.double() * factors(y, slope, gain), dtype)
        assert torch.equal(ops.bias_act(x, None, 1.0, 1.0), x)


def test_gradient_at_zero_is_torchs_own(ops):
    x = torch.zeros(1, 3, requires_grad=True)
    F.leaky_relu(x, 0.2).sum().backward()
    ours = ops.bias_act_grad(torch.ones(1, 3), torch.zeros(1, 3), 0.2, 1.0)
    assert torch.equal(ours, x.grad)


def test_conversions_to_half_types_are_torchs_own(ops):
    """Every rounding, infinity and NaN: with slope 1 and gain 1 the activation only converts."""
    exact = torch.arange(2**16, dtype=torch.int64).to(torch.int16)
    wide = torch.arange(0, 2**32, 65521 * 3, dtype=torch.int64).to(torch.int32).view(torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        x = exact.view(dtype)
        for got, want in (
            (ops.bias_act(x.reshape(1, -1), None, 1.0, 1.0)[0], x),
            (ops.bias_act(torch.zeros(1, len(wide), dtype=dtype), wide, 1.0, 1.0)[0], wide.to(dtype)),
        ):
            assert torch.equal(got.isnan(), want.isnan())
            if dtype == torch.bfloat16:  # whose subnormals some processors' own instructions take for 0
                got, want = (v * (v.abs() >= torch.finfo(dtype).tiny) for v in (got, want))
            assert torch.equal(torch.where(got.isnan(), 0, got), torch.where(want.isnan(), 0, want))


def tail_inputs(seed, shape, dtype, layout, fir):
    N, C, H, W = shape
    exact = torch.promote_types(dtype, torch.float32)
    x = maps(seed, (N, C, H + 1, W + 1) if fir else shape, dtype, layout)
    d, b, strength, sigma = (draw(seed + i, *size).to(exact) for i, size in enumerate(((N, C), (C,), (), (N,))))
    return x, d + 1, b, strength, sigma, draw(seed + 9, N, 1, H, W).to(exact), maps(seed + 8, shape, dtype, layout)


def tail_reference(x, fir, d, noise, strength, b, slope, gain):
    u = x.double() if fir is None else _ref(x.double(), fir.double(), after_up_convolution(len(fir)))
    pre = u if d is None else u * d.double()[:, :, None, None]
    if strength is not None:
        pre = pre + strength.double() * noise.double()
    pre = pre + b.double()[:, None, None]
    return u, pre, gain * F.leaky_relu(pre, slope)


TAIL_SIZES = [
    (2, 5, 1, 1),
    (1, 3, 4, 7),
    (2, 16, 8, 4),
    (1, 37, 6, 13),
    (2, 40, 16, 16),
    (1, 2100, 2, 12),
    (1, 4, 19, 35),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fir", [None, TAPS, torch.tensor([0.1, 0.4, 0.3, 0.2]), torch.arange(1.0, 7) / 21])
def test_styled_tail_and_its_gradient(ops, dtype, layout, fir):
    slope, gain, key, z_key = 0.2, math.sqrt(2), 0x123456789ABCDEF, -7
    for shape in TAIL_SIZES:
        x, d, b, strength, sigma, noise, z1 = tail_inputs(0, shape, dtype, layout, fir is not None)
        g = maps(5, shape, dtype, layout)
        drawn_noise = ops.counter_normal([shape[0], 1, *shape[2:]], key, x)
        drawn_z1 = ops.counter_normal(shape, z_key, x) * sigma.reshape(-1, 1, 1, 1)
        for d_, noise_, strength_, z1_, sigma_ in (
            (d, noise, strength, None, None),
            (None, None, None, z1, None),
            (d, noise[:1], strength, None, sigma),
            (None, None, strength, None, sigma * 0),
        ):
            y = ops.styled_tail(x, fir, d_, noise_, strength_, b, z1_, sigma_, key, z_key, slope, gain)
            used = drawn_noise if noise_ is None else noise_
            u, pre, want = tail_reference(x, fir, d_, used, strength_, b, slope, gain)
            if z1_ is not None:
                want = want + z1_.double()
            if sigma_ is not None and sigma_.abs().max() > 0:
                want = want + drawn_z1.double()
            scale = 8 if fir is not None and len(fir) != 4 else 4
            assert y.dtype == dtype
            assert shape[2] == 1 or y.is_contiguous(memory_format=layout)
            close(y, want, dtype, scale)

            h, sum_gu, sum_g, sum_gn, sum_c = ops.styled_tail_grad(
                g, x, fir, d_, noise_, strength_, b, key, slope, gain, *[strength_ is not None] * 2
            )
            unsure = pre.abs() < TOLERANCE[dtype] * 100  # rounding of u may decide the sign
            gp = g.double() * factors(pre, slope, gain)
            want_h = gp if d_ is None else gp * d_.double()[:, :, None, None]
            close(torch.where(unsure, 0, h.double()), torch.where(unsure, 0, want_h), dtype)
            for got, per_element, dims in (
                (sum_gu, gp * u, (2, 3)),
                (sum_g, gp, (2, 3)),
                (sum_gn, gp * used.double(), (0, 1, 2, 3)),
                (sum_c, gp, (1,)),
            ):
                if got.numel() or strength_ is not None:
                    assert got.dtype == torch.promote_types(dtype, torch.float32)
                    kind = torch.float32 if dtype != torch.float64 and scale == 4 else dtype
                    summed = (1 + unsure.sum().item()) * math.sqrt(math.prod(shape[dim] for dim in dims))
                    close(got, per_element.sum(dims, keepdim=len(dims) == 1), kind, summed * scale)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fir", [None, TAPS])
def test_the_gradients_sign_is_the_forward_passs(ops, layout, fir):
    """Both compute the activation's argument with one arithmetic, so that not even rounding to zero separates them."""
    x, d, b, strength, _, noise, _ = tail_inputs(3, (2, 40, 33, 37), torch.float32, layout, fir is not None)
    plain = ops.styled_tail(x, fir, d, noise, strength, b * 0, None, None, 0, 0, 1.0, 1.0)
    b = -plain[0, :, 5, 7]  # arguments that differ from zero by rounding only
    pre = ops.styled_tail(x, fir, d, noise, strength, b, None, None, 0, 0, 1.0, 1.0)
    assert (pre[0, :, 5, 7].abs() < 1e-5).all()
    h, *_ = ops.styled_tail_grad(torch.ones_like(pre), x, fir, d.abs(), noise, strength, b, 0, 0.0, 1.0, False, False)
    want = ops.styled_tail(x, fir, d.abs(), noise, strength, b, None, None, 0, 0, 1.0, 1.0)
    assert torch.equal(h > 0, want > 0)


def philox_numpy(counter: list[np.ndarray], key: int) -> list[np.ndarray]:
    """Philox4x32-10 on four arrays of 32-bit words, each held in 64 bits."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = p1 >> half ^ c1 ^ np.uint64(k0), p1 & low, p0 >> half ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def normals_numpy(n: int, key: int) -> np.ndarray:
    block = np.arange(-(-n // 4), dtype=np.uint64)
    words = philox_numpy([block, block * 0, block * 0, block * 0], key)
    pairs = []
    for w0, w1 in (words[:2], words[2:]):
        radius = np.sqrt(-2 * np.log((w0.astype(float) + 0.5) * 2.0**-32))
        angle = 2 * np.pi * w1.astype(float) * 2.0**-32
        pairs += [radius * np.cos(angle), radius * np.sin(angle)]
    return np.stack(pairs, 1).reshape(-1)[:n]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_reference_gives_random123s_known_answers(counter, key, words):
    """The compiled generator is held against these when it is compiled."""
    low, high = (int(word, 16) for word in key.split())
    got = philox_numpy([np.array([int(word, 16)], dtype=np.uint64) for word in counter.split()], low | high << 32)
    assert [f"{int(word[0]):08x}" for word in got] == words.split()


@pytest.mark.parametrize("key", [0, 1, -1, 0x123456789ABCDEF])
def test_counter_normals_equal_numpys(ops, key):
    n = 30_011
    got = ops.counter_normal([n], key, torch.empty(0)).double().numpy()
    np.testing.assert_allclose(got, normals_numpy(n, key), rtol=1e-6, atol=1e-6)
    assert abs(got.mean()) < 0.03
    assert abs(got.std() - 1) < 0.02


def test_results_do_not_depend_on_the_number_of_threads(ops):
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            for layout in LAYOUTS:
                x, d, b, strength, sigma, _, _ = tail_inputs(0, (2, 24, 40, 44), torch.float32, layout, True)
                y = ops.styled_tail(x, TAPS, d, None, strength, b, None, sigma, 1, 2, 0.2, 1.0)
                grads = ops.styled_tail_grad(y, x, TAPS, d, None, strength, b, 1, 0.2, 1.0, True, True)
                results.append([y, *grads, ops.counter_normal([99_999], 3, x)])
    finally:
        torch.set_num_threads(threads)
    for i, other in enumerate(results[2:]):
        assert all(torch.equal(a, b) for a, b in zip(results[i % 2], other, strict=True))


def test_empty_batches(ops):
    x = torch.empty(0, 4, 8, 8)
    assert ops.upfirdn2d(x, TAPS, *PLANS[2]).shape[0] == 0
    assert ops.bias_act(x, torch.zeros(4), 0.2, 1.0).shape == x.shape
    b = torch.zeros(4)
    assert ops.styled_tail(x, None, None, None, None, b, None, None, 0, 0, 0.2, 1.0).shape == x.shape
    h, sum_gu, _, sum_gn, _ = ops.styled_tail_grad(x, x, None, None, None, None, b, 0, 0.2, 1.0, True, False)
    assert h.shape == x.shape
    assert sum_gu.shape == (0, 4)
    assert sum_gn == 0


def test_wrong_arguments(ops):
    x, b = torch.ones(1, 4, 8, 8), torch.zeros(4)
    with pytest.raises(RuntimeError, match="float64, float32, float16 and bfloat16"):
        ops.bias_act(x.int(), None, 0.2, 1.0)
    with pytest.raises(RuntimeError, match="b has 3 elements, expected 4"):
        ops.bias_act(x, torch.zeros(3), 0.2, 1.0)
    with pytest.raises(RuntimeError, match="leave nothing"):
        ops.upfirdn2d(x, torch.ones(30), [1, 1], [1, 1], [0, 0, 0, 0], False, 1.0)
    with pytest.raises(RuntimeError, match="taps \\[k\\]"):
        ops.styled_tail(x, torch.ones(4, 4), None, None, None, b, None, None, 0, 0, 0.2, 1.0)
