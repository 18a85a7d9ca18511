"""Every compiled operation on a GPU against ``ref`` in float64, in both layouts and all types, to second order."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from rtil import ops
from rtil.ops import extension, selftest
from rtil.ops.build import BuildError
from rtil.ops.selftest import using_tier
from tests.rtil.ops.helpers import draw

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
WITHIN = {torch.float64: 1e-11, torch.float32: 3e-6, torch.float16: 3e-3, torch.bfloat16: 2e-2}
LAYOUTS = [torch.contiguous_format, torch.channels_last]
SIZES = [(2, 5, 1, 1), (1, 3, 5, 7), (2, 64, 16, 16), (1, 37, 6, 13), (4, 128, 32, 32), (2, 16, 130, 66)]
FIR = ops.fir_filter((1, 3, 3, 1))


@pytest.fixture(scope="module", autouse=True)
def _library():
    try:
        loaded = extension.load()
    except BuildError as error:
        pytest.skip(f"no compiled operations: {error}")
    assert loaded.cuda, loaded.cuda_error


def on_gpu(x, dtype, layout):
    return x.to(dtype).to("cuda").contiguous(memory_format=layout if x.ndim == 4 else torch.contiguous_format)


def first_order(function, inputs):
    """Return the value and the gradient of every input, for one fixed incoming gradient."""
    leaves = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]
    y = function(*leaves)
    g = draw(*y.shape, seed=7).to(y)
    return [t.detach().cpu() for t in (y, *torch.autograd.grad(y, leaves, g))]


def hold(function, maps, parameters, dtype, layout, within=0.0):
    """Compare on the same rounded numbers; sums over many of them may be small only by cancellation."""
    within = max(within, WITHIN[dtype])
    xs = [on_gpu(x, dtype, layout) for x in maps]
    ps = [on_gpu(p, torch.promote_types(dtype, torch.float32), layout) for p in parameters]
    with using_tier("ext"):
        ours = first_order(function, [*xs, *ps])
    assert ours[0].dtype == dtype
    with using_tier("ref"):
        exact = first_order(function, [t.double() for t in (*xs, *ps)])
    for i, (a, b) in enumerate(zip(ours, exact, strict=True)):
        error = float((a.double() - b).norm()) / max(float(b.norm()), math.sqrt(exact[0].numel()))
        assert error < within, (i, tuple(b.shape), error)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SIZES)
def test_cuda_upfirdn2d(dtype, layout, shape):
    f = FIR.cuda()
    for up, down, padding in ((1, 1, (2, 1, 1, 2)), (2, 1, (2, 1, 2, 1)), (2, 1, (1, 2, 3, 0)), (1, 2, (2, 2, 1, 2))):
        function = partial(ops.upfirdn2d, f=f, up=up, down=down, padding=padding, gain=float(up * up))
        hold(function, [draw(*shape)], [], dtype, layout)
    taps = torch.tensor([1.0, 2, 3, 4, 3, 2, 1], device="cuda") / 16  # whose products are exact
    longer = partial(ops.upfirdn2d, f=taps, up=2, down=3, padding=(4, 4, 4, 4))
    hold(longer, [draw(*shape)], [], dtype, layout)


def away_from_zero(x):
    """No rounding takes such a number to the other side of the leaky ReLU."""
    return x + 2 * x.sign()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SIZES)
def test_cuda_bias_act(dtype, layout, shape):
    x, b = away_from_zero(draw(*shape)), 0.01 * draw(shape[1], seed=1)
    hold(ops.bias_act, [x], [b], dtype, layout)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("fir", [None, FIR])
def test_cuda_styled_tail(dtype, layout, shape, fir):
    N, C, H, W = shape
    x = draw(N, C, H + 1, W + 1) if fir is not None else draw(*shape)
    b = 8 * (-1.0) ** torch.arange(C, dtype=torch.float64)  # decides the sign
    d, noise = 1 + 0.1 * draw(N, C, seed=1), draw(N, 1, H, W, seed=2)
    strength = torch.tensor(0.3, dtype=torch.float64)
    taps = None if fir is None else fir.cuda()
    drawn, sigma = 1234567890123, torch.arange(N).double().cuda()

    def tensors(x, z1, b, d, noise, strength):
        return ops.styled_tail(x, b, fir=taps, d=d, noise=noise, strength=strength, z1=z1)

    def counters(x, b, d, strength):
        noise, z1 = ops.Drawn(drawn), ops.Drawn(drawn + 1, sigma)
        return ops.styled_tail(x, b, fir=taps, d=d, noise=noise, strength=strength, z1=z1)

    hold(tensors, [x, draw(*shape, seed=3)], [b, d, noise, strength], dtype, layout)
    hold(counters, [x], [b, d, strength], dtype, layout, within=1e-6)  # drawn in float32


def test_cuda_second_order_and_self_test():
    outcomes = [outcome for outcome in selftest.run_all(True, ["cuda"]) if outcome.tier == "ext"]
    assert len(outcomes) > 10
    for outcome in outcomes:
        assert outcome.ok, outcome


def test_cuda_draws_what_the_cpu_draws():
    for shape in ((5,), (1023,), (3, 4, 5, 6), (100_001,)):
        with using_tier("ext"):
            gpu, cpu = (ops.counter_normal(shape, -77, torch.device(name)) for name in ("cuda", "cpu"))
        torch.testing.assert_close(gpu.cpu(), cpu, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cuda_results_are_the_same_every_time(layout):
    x, b = on_gpu(draw(8, 64, 65, 65), torch.bfloat16, layout), draw(64).float().cuda()
    d, strength, g = draw(8, 64).float().cuda(), torch.tensor(0.5).cuda(), on_gpu(draw(8, 64, 64, 64), x.dtype, layout)
    settings = (5, 0.2, math.sqrt(2), True, True)
    runs = [torch.ops.rtil.styled_tail_grad(g, x, FIR.cuda(), d, None, strength, b, *settings) for _ in range(3)]
    for run in runs[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(run, runs[0], strict=True))


def test_cuda_runs_on_the_current_stream_and_the_tensors_device():
    x, b = torch.randn(4, 32, 64, 64, device="cuda"), torch.zeros(32, device="cuda")
    torch.ops.rtil.bias_act(x, b, 0.2, 1.0, -1.0)  # loads the kernel, which a capture may not
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            y = torch.ops.rtil.bias_act(x, b, 0.2, 1.0, -1.0)
    x.neg_()
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(y, F.leaky_relu(x, 0.2))
    with pytest.raises(RuntimeError, match="device of the first"):
        torch.ops.rtil.bias_act(x, b.cpu(), 0.2, 1.0, -1.0)
