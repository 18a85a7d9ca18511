"""The CUDA kernels' bodies, run on the CPU thread by thread, against float64 references and the CPU's own kernels."""

import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.ops import build, extension
from rtil.ops.build import BuildError
from rtil.ops.build_recipe import Recipe
from rtil.ops.plan import Plan, after_up_convolution
from rtil.ops.toolchain import find_compiler
from rtil.ops.upfirdn2d import _ref

pytestmark = pytest.mark.slow  # they are compiled first
TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
TAPS = torch.tensor([1.0, 3, 3, 1]) / 8
SKEW = torch.tensor([0.1, 0.4, 0.3, 0.2])
# C: one, fewer than a pack, packs of every type, not a multiple of a pack
SIZES = [(2, 5, 1, 1), (1, 3, 5, 7), (2, 16, 9, 4), (1, 37, 6, 13), (2, 40, 17, 17), (3, 8, 40, 6), (2, 1, 8, 8)]
FILLS = [1, 10**9]  # strips as long and as short as they can be
FILL = 1 << 18  # of csrc/cuda/launch.cuh


class Bodies:
    """The operations with the CUDA kernels' bodies, and the machine's number of threads as their last argument."""

    def __init__(self, ops):
        self.upfirdn2d = ops.test_upfirdn2d
        self.bias_act = ops.test_bias_act
        self.bias_act_grad = ops.test_bias_act_grad
        self.styled_tail = ops.test_styled_tail
        self.styled_tail_grad = ops.test_styled_tail_grad
        self.counter_normal = ops.test_counter_normal
        self.stores = ops.test_stores


@pytest.fixture(scope="module")
def ops():
    try:
        extension.load()
    except BuildError as error:
        pytest.skip(f"no compiled operations: {error}")
    return torch.ops.rtil


@pytest.fixture(scope="module")
def bodies(ops, tmp_path_factory):
    sources = tmp_path_factory.mktemp("csrc")
    for path in (*build.SOURCES.glob("*.h"), *Path(__file__).parent.glob("cuda_bodies*")):
        shutil.copy(path, sources)
    try:
        library = build.make(Recipe(sources, find_compiler(), None, ()))
    except BuildError as error:
        pytest.skip(f"the CUDA bodies cannot be compiled for the CPU: {error}")
    torch.ops.load_library(library)
    return Bodies(ops)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(seed, shape, dtype, layout, offset: int = 0):
    """Return maps amid NaNs in memory; ``offset`` elements behind an address that packs can be read from."""
    x = draw(seed, *shape).to(dtype).contiguous(memory_format=layout)
    around = torch.full((x.numel() + 2 * 4096,), math.nan, dtype=dtype)
    inside = around.as_strided(x.shape, x.stride(), 4096 + offset)
    return inside.copy_(x)


def close(got: Tensor, want: Tensor, dtype: torch.dtype, scale: float = 1.0):
    """Rounding of the result's own type, and of float32 sums where it is half as wide."""
    tolerance = TOLERANCE[dtype] * scale
    torch.testing.assert_close(got.double(), want.double(), rtol=tolerance, atol=tolerance)


def plans():
    pads = [(1, 2, 2, 1), (2, 1, 3, 3), (3, 3, 2, 1), (-1, 4, 4, 0), (0, 3, 3, 2), (5, 4, -2, 6)]
    for factors in (((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 2))):
        for i, pad in enumerate(pads):
            yield Plan(*factors, pad, i % 2 == 0, (1.0, 4.0, 0.7)[i % 3])


OTHERS = [
    (torch.tensor([0.1, 0.7, -0.3]), Plan((1, 1), (1, 1), (1, 1, 1, 1), False, 1.0)),
    (torch.tensor([1.0]), Plan((2, 2), (1, 1), (0, 0, 0, 0), False, 2.0)),
    (torch.arange(1.0, 11) / 50, Plan((1, 1), (2, 2), (6, 6, 6, 6), True, 0.7)),
    (SKEW, Plan((2, 1), (1, 2), (0, 3, 3, 2), True, 1.5)),
    (SKEW, Plan((3, 2), (2, 3), (3, 4, 5, 2), False, 2.0)),
    (torch.arange(12.0).reshape(4, 3).cos(), Plan((2, 2), (1, 1), (-1, 5, 6, -1), False, 1.0)),
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_upfirdn2d(bodies, dtype, layout):
    compared = 0
    for shape in SIZES:
        for offset in (0, 1):
            x = maps(1, shape, dtype, layout, offset)
            for f, plan in [*((SKEW, plan) for plan in plans()), *OTHERS]:
                smallest = min(plan.output_size(*shape[2:], f))
                if smallest < 1 or min(shape[2:]) * plan.up[0] + min(plan.pad) < 0:  # the reference cannot crop so much
                    continue
                want = _ref(x.double(), f.double(), plan)
                for fill in FILLS:
                    y = bodies.upfirdn2d(x, f, *plan, fill)
                    assert y.dtype == dtype
                    assert shape[1] == 1 or shape[2] == 1 or y.is_contiguous(memory_format=layout)
                    close(y, want, dtype, scale=4)
                    compared += 1
    assert compared > 400


def test_upfirdn2d_is_the_cpu_kernels(bodies, ops):
    x = maps(0, (2, 16, 33, 30), torch.bfloat16, torch.channels_last)
    for plan in plans():
        close(bodies.upfirdn2d(x, TAPS, *plan, 1000), ops.upfirdn2d(x, TAPS, *plan), x.dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(4, 7), (3, 512), (2, 3, 5), *SIZES, (1, 3, 2, 2, 3), (2, 3000), (1, 32, 64, 65)])
def test_bias_act_and_its_gradient(bodies, ops, dtype, shape):
    for layout in LAYOUTS if len(shape) == 4 else LAYOUTS[:1]:
        for slope, gain in ((0.2, math.sqrt(2)), (1.0, 1.0), (0.0, 1.5)):
            for offset in (0, 1):
                x, g = (maps(seed, shape, dtype, layout, offset) for seed in (0, 1))
                b = maps(2, shape[1:2], torch.promote_types(dtype, torch.float32), LAYOUTS[0], offset)
                y = bodies.bias_act(x, b, slope, gain)
                assert torch.equal(y, ops.bias_act(x, b, slope, gain))
                want = F.leaky_relu(x.double() + b.double().reshape(1, -1, *[1] * (len(shape) - 2)), slope) * gain
                close(y, want, dtype)
                got = bodies.bias_act_grad(g, y, slope, gain)
                assert torch.equal(got, ops.bias_act_grad(g, y, slope, gain))
                assert torch.equal(bodies.bias_act(x, None, slope, gain), ops.bias_act(x, None, slope, gain))


TAIL_SIZES = [
    (2, 5, 1, 1),
    (1, 3, 4, 7),
    (2, 16, 8, 4),
    (1, 37, 6, 13),
    (2, 40, 16, 16),
    (1, 256, 2, 12),
    (3, 8, 70, 4),
]


def tail_inputs(shape, dtype, layout, fir, offset):
    N, C, H, W = shape
    exact = torch.promote_types(dtype, torch.float32)
    x = maps(0, (N, C, H + 1, W + 1) if fir else shape, dtype, layout, offset)
    d, b, strength, sigma = (draw(i, *size).to(exact) for i, size in enumerate(((N, C), (C,), (), (N,))))
    noise = maps(9, (N, 1, H, W), exact, LAYOUTS[0], offset)
    return x, d + 1, b, strength, sigma, noise, *(maps(i, shape, dtype, layout, offset) for i in (8, 5))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fir", [None, SKEW, torch.arange(1.0, 7) / 21])
@pytest.mark.parametrize("offset", [0, 1])
def test_styled_tail_and_its_gradient(bodies, ops, dtype, layout, fir, offset):
    slope, gain, key, z_key = 0.2, math.sqrt(2), 0x123456789ABCDEF, -7
    for shape in TAIL_SIZES:
        x, d, b, strength, sigma, noise, z1, g = tail_inputs(shape, dtype, layout, fir is not None, offset)
        u = x.double() if fir is None else _ref(x.double(), fir.double(), after_up_convolution(len(fir)))
        for d_, noise_, strength_, z1_, sigma_ in (
            (d, noise, strength, None, None),
            (None, None, None, z1, None),
            (d, noise[:1], strength, None, sigma),
            (None, None, strength, None, sigma * 0),
        ):
            used = ops.counter_normal([shape[0], 1, *shape[2:]], key, x) if noise_ is None else noise_
            pre = u * (1 if d_ is None else d_.double()[:, :, None, None]) + b.double()[:, None, None]
            pre = pre if strength_ is None else pre + strength_.double() * used.double()
            want = gain * F.leaky_relu(pre, slope)
            if z1_ is not None:
                want = want + z1_.double()
            if sigma_ is not None:
                want = want + (ops.counter_normal(shape, z_key, x) * sigma_.reshape(-1, 1, 1, 1)).double()
            scale = 8 if fir is not None and len(fir) != 4 else 4
            tail = (x, fir, d_, noise_, strength_, b)
            unsure = pre.abs() < TOLERANCE[dtype] * 100  # rounding of u may decide the sign
            gp = g.double() * gain * (slope + (1 - slope) * (pre > 0).double())
            want_h = gp if d_ is None else gp * d_.double()[:, :, None, None]
            wanted = [(gp * u, (2, 3)), (gp, (2, 3)), (gp * used.double(), (0, 1, 2, 3)), (gp, (1,))]
            for fill in FILLS:
                y = bodies.styled_tail(*tail, z1_, sigma_, key, z_key, slope, gain, fill)
                assert y.dtype == dtype
                assert shape[2] == 1 or y.is_contiguous(memory_format=layout)
                close(y, want, dtype, scale)
                h, *sums = bodies.styled_tail_grad(g, *tail, key, slope, gain, *[strength_ is not None] * 2, fill)
                assert h.is_contiguous(memory_format=layout)
                close(torch.where(unsure, 0, h.double()), torch.where(unsure, 0, want_h), dtype)
                for got, (per_element, dims) in zip(sums, wanted, strict=True):
                    assert got.dtype == torch.promote_types(dtype, torch.float32)
                    assert got.is_contiguous()
                    if dims != (2, 3) and strength_ is None:
                        assert got.shape == (0,)
                        continue
                    kind = torch.float32 if dtype != torch.float64 and scale == 4 else dtype
                    summed = (1 + unsure.sum().item()) * math.sqrt(math.prod(shape[dim] for dim in dims))
                    close(got, per_element.sum(dims, keepdim=len(dims) == 1), kind, summed * scale)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fir", [None, SKEW])
def test_each_sum_of_the_gradient_can_be_had_alone(bodies, layout, fir):
    x, d, b, strength, _, noise, _, g = tail_inputs((2, 40, 16, 16), torch.bfloat16, layout, fir is not None, 0)
    arguments = (g, x, fir, d, noise, strength, b, 0, 0.2, 1.0)
    *_, both_gn, both_c = bodies.styled_tail_grad(*arguments, True, True, 1)
    *_, only_gn, no_c = bodies.styled_tail_grad(*arguments, True, False, 1)
    *_, no_gn, only_c = bodies.styled_tail_grad(*arguments, False, True, 1)
    assert torch.equal(only_gn, both_gn)
    assert torch.equal(only_c, both_c)
    assert no_gn.shape == no_c.shape == (0,)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_maps_divided_as_on_the_gpu(bodies, ops, layout):
    """Strips of several rows, the last ones shorter."""
    assert f"fill = 1 << {FILL.bit_length() - 1};" in (build.SOURCES / "cuda" / "launch.cuh").read_text()
    x, d, b, strength, sigma, _, _, g = tail_inputs((2, 40, 250, 254), torch.float32, layout, True, 0)
    plan = after_up_convolution(4)
    close(bodies.upfirdn2d(x, SKEW, *plan, FILL), ops.upfirdn2d(x, SKEW, *plan), x.dtype, scale=4)
    for fir, u in ((SKEW, x), (None, g)):
        b_far = 9 * b.sign()  # no rounding decides a sign
        tail = (u, fir, d, None, strength, b_far)
        y = bodies.styled_tail(*tail, None, sigma, 5, 6, 0.2, 1.0, FILL)
        close(y, ops.styled_tail(*tail, None, sigma, 5, 6, 0.2, 1.0), x.dtype, scale=8)
        ours = bodies.styled_tail_grad(g, *tail, 5, 0.2, 1.0, True, True, FILL)
        theirs = ops.styled_tail_grad(g, *tail, 5, 0.2, 1.0, True, True)
        for got, want in zip(ours, theirs, strict=True):
            close(got, want, x.dtype, scale=1000 if got.numel() < 100 else 30)


def test_what_bodies_write_is_watched(bodies):
    """Every test here fails where a body leaves out a place, writes twice to one or to one outside."""
    like = torch.empty(0)
    assert torch.equal(bodies.stores(like, list(range(10))), torch.ones(10))
    for places, wrong in (([*range(9)], "not write all"), ([*range(10), 3], "write twice"), ([*range(11)], "outside")):
        with pytest.raises(RuntimeError, match=wrong):
            bodies.stores(like, places)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fir", [None, TAPS])
def test_the_gradients_sign_is_the_forward_passs(bodies, layout, fir):
    x, _, b, strength, _, noise, _, g = tail_inputs((2, 40, 32, 32), torch.float32, layout, fir is not None, 0)
    tail = (x * 1e-3, fir, None, noise * 1e-3, strength, b * 0)
    pre = bodies.styled_tail(*tail, None, None, 0, 0, 1.0, 1.0, 100)
    h, *_ = bodies.styled_tail_grad(torch.ones_like(g), *tail, 0, 0.0, 1.0, False, False, 10_000)
    assert torch.equal(h > 0, pre > 0)


def test_counter_normals(bodies, ops):
    for n in (1, 3, 4, 1023, 5000):
        like = torch.empty(0)
        assert torch.equal(bodies.counter_normal([n], -3, like), ops.counter_normal([n], -3, like))


def test_empty_batches(bodies):
    x, b = torch.empty(0, 4, 8, 8), torch.zeros(4)
    assert bodies.upfirdn2d(x, TAPS, [2, 2], [1, 1], [2, 1, 2, 1], False, 1.0, 1).shape == (0, 4, 16, 16)
    assert bodies.bias_act(x, b, 0.2, 1.0).shape == x.shape
    assert bodies.styled_tail(x, None, None, None, None, b, None, None, 0, 0, 0.2, 1.0, 1).shape == x.shape
    *_, sum_gn, sum_c = bodies.styled_tail_grad(x, x, None, None, None, None, b, 0, 0.2, 1.0, True, True, 1)
    assert sum_gn == 0
    assert sum_c.shape == (0, 1, 8, 8)
