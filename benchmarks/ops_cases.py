"""The operations that ``python -m benchmarks ops`` times, each computed in three ways.

ours         rtil.ops, in whichever tier is set
composition  torch's operations one after the other, in the same type and layout
peer-style   as the published codes: the same in float32 and NCHW, FIR by zero insertion over single maps, no
             demodulation behind the convolution (theirs is in the weights)

A map of side S is the output of a styled layer; behind an up-convolution its input has side S + 1, before an upsampling
S / 2.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import peer_style
from rtil import ops
from rtil.ops import Drawn
from rtil.ops.bias_act import LRELU_GAIN, LRELU_SLOPE
from rtil.seeds import derive_seed

Layout = Literal["nhwc", "nchw"]
TAPS = (1, 3, 3, 1)
R1_LAYERS = 4
KEY = 1


class Shape(NamedTuple):
    """Size of a map: N pictures, C channels, side S.

    Example:
        >>> Shape.of("32x128x16")
        Shape(N=32, C=128, S=16)
    """

    N: int
    C: int
    S: int

    @classmethod
    def of(cls, text: str) -> "Shape":
        """Read NxCxS."""
        N, C, S = (int(word) for word in text.split("x"))
        return cls(N, C, S)


class Op(NamedTuple):
    """An operation of a map x and of parameters.

    Attributes:
        side: Of x, from the side S of the case.
        parameters: {name: shape} of float32 tensors beside x, from N, C and the side S of the output.
        ways: {way: function of x and the parameters, in their order}.
        kept: What the backward pass must read beside the gradient: nothing, x or the output.
        differentiated: Names of the parameters whose gradient is wanted.
    """

    side: Callable[[int], int]
    parameters: Callable[[int, int, int], dict[str, tuple[int, ...]]]
    ways: Mapping[str, Callable[..., Tensor]]
    kept: Literal["nothing", "x", "output"]
    differentiated: Sequence[str] = ()


@cache
def taps_on(device: torch.device) -> Tensor:
    """Return the filter, as a network holds it."""
    return ops.fir_filter(TAPS).to(device)


@cache
def ones_on(n: int, device: torch.device) -> Tensor:
    """Return ones [n]."""
    return torch.ones(n, device=device)


def fir_ours(x: Tensor, up: int, down: int, pad: tuple[int, int], gain: float) -> Tensor:
    """Resample by rtil.ops."""
    return ops.upfirdn2d(x, taps_on(x.device), up=up, down=down, padding=(*pad, *pad), gain=gain)


def fir_composed(x: Tensor, up: int, down: int, pad: tuple[int, int], gain: float) -> Tensor:
    """Insert zeros, pad, filter by a depthwise convolution."""
    if up > 1:
        N, C, H, W = x.shape
        layout = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
        spread = torch.zeros(N, C, H * up, W * up, dtype=x.dtype, device=x.device).to(memory_format=layout)
        spread[:, :, ::up, ::up] = x
        x = spread
    C = x.shape[1]
    w = peer_style.kernel(gain, x.device, x.dtype).expand(C, 1, len(TAPS), len(TAPS))
    return F.conv2d(F.pad(x, [*pad, *pad]), w, stride=down, groups=C)


def fir_published(x: Tensor, up: int, down: int, pad: tuple[int, int], gain: float) -> Tensor:
    """Insert zeros, pad, filter every map on its own, keep every ``down``-th sample."""
    return peer_style.fir(x, gain, up, pad)[:, :, ::down, ::down]


def _resampling(side: Callable[[int], int], up: int, down: int, pad: tuple[int, int], gain: float) -> Op:
    how = {"up": up, "down": down, "pad": pad, "gain": gain}
    functions = {"ours": fir_ours, "composition": fir_composed, "peer-style": fir_published}

    def bound(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x: function(x, **how)

    return Op(side, lambda N, C, S: {}, {name: bound(f) for name, f in functions.items()}, "nothing")


def activate(x: Tensor, b: Tensor) -> Tensor:
    """Bias, leaky ReLU and gain, each as an operation of its own."""
    return F.leaky_relu(x + b.to(x.dtype)[None, :, None, None], LRELU_SLOPE) * LRELU_GAIN


def _tail(fir: bool, z1: bool) -> Op:
    pad, gain = (1, 1), 4.0

    def ours(x: Tensor, b: Tensor, d: Tensor, noise: Tensor, strength: Tensor) -> Tensor:
        taps = taps_on(x.device) if fir else None
        drawn = Drawn(KEY, ones_on(len(x), x.device)) if z1 else None
        return ops.styled_tail(x, b, fir=taps, d=d, noise=noise, strength=strength, z1=drawn)

    def composition(x: Tensor, b: Tensor, d: Tensor, noise: Tensor, strength: Tensor) -> Tensor:
        u = fir_composed(x, 1, 1, pad, gain) if fir else x
        u = u * d.to(u.dtype)[:, :, None, None] + (strength * noise).to(u.dtype)
        y = activate(u, b)
        return y + torch.randn_like(y) if z1 else y

    def published(x: Tensor, b: Tensor, d: Tensor, noise: Tensor, strength: Tensor) -> Tensor:
        u = peer_style.fir(x, gain, pad=pad) if fir else x
        y = peer_style.activate(u + strength * noise, b)
        return y + torch.randn_like(y) if z1 else y

    return Op(
        lambda S: S + fir,
        lambda N, C, S: {"b": (C,), "d": (N, C), "noise": (N, 1, S, S), "strength": ()},
        {"ours": ours, "composition": composition, "peer-style": published},
        "x",
        ("b", "d", "strength"),
    )


OPS: dict[str, Op] = {
    "upfirdn2d up1": _resampling(lambda S: S + 1, 1, 1, (1, 1), 4.0),
    "upfirdn2d up2": _resampling(lambda S: S // 2, 2, 1, (2, 1), 4.0),
    "upfirdn2d down2": _resampling(lambda S: S, 1, 2, (1, 1), 1.0),
    "bias_act": Op(
        lambda S: S,
        lambda N, C, S: {"b": (C,)},
        {"ours": ops.bias_act, "composition": activate, "peer-style": peer_style.activate},
        "output",
        ("b",),
    ),
    "tail": _tail(fir=False, z1=False),
    "tail with z1": _tail(fir=False, z1=True),
    "tail with FIR": _tail(fir=True, z1=False),
}
"""The memory-bound operations by name."""

R1 = "R1 of 4 convolutions"


class Run(NamedTuple):
    """What is timed.

    Attributes:
        call: Runs it once.
        bytes_moved: Fewest that must be read and written; None where arithmetic is the limit.
    """

    call: Callable[[], object]
    bytes_moved: int | None


def normal(name: str, shape: Sequence[int], device: torch.device) -> Tensor:
    """Return float32 random numbers, drawn on the device: the largest maps take a CPU seconds."""
    rng = torch.Generator(device).manual_seed(derive_seed(0, f"benchmark/{name}"))
    return torch.randn(tuple(shape), generator=rng, device=device)


def a_map(name: str, shape: Sequence[int], dtype: torch.dtype, layout: Layout, device: torch.device) -> Tensor:
    """Return random numbers in a type and a layout."""
    x = normal(name, shape, device).to(dtype)
    return x.contiguous(memory_format=torch.channels_last if layout == "nhwc" else torch.contiguous_format)


def prepare(
    name: str, way: str, backward: bool, shape: Shape, dtype: torch.dtype, layout: Layout, device: torch.device
) -> Run:
    """Return an operation in one of its ways, with the bytes that it moves at best.

    Args:
        name: One of ``OPS``.
        way: ours, composition or peer-style, which is float32 and NCHW whatever is asked for.
        backward: Time the backward pass, else the forward pass.
        shape: Of the map.
        dtype: Of the map.
        layout: Of the map.
        device: Of all tensors.
    """
    op, (N, C, S) = OPS[name], shape
    if way == "peer-style":
        dtype, layout = torch.float32, "nchw"
    side = op.side(S)
    x = a_map("x", (N, C, side, side), dtype, layout, device)
    parameters = {key: normal(key, size, device) for key, size in op.parameters(N, C, S).items()}
    noise_bytes = parameters["noise"].nbytes if "noise" in parameters else 0
    function = op.ways[way]
    if not backward:
        with torch.no_grad():
            written = function(x, *parameters.values()).nbytes

        def forward() -> Tensor:
            with torch.no_grad():
                return function(x, *parameters.values())

        return Run(forward, x.nbytes + written + noise_bytes)
    leaves = [x.requires_grad_(), *(parameters[key].requires_grad_() for key in op.differentiated)]
    y = function(x, *parameters.values())
    g = a_map("g", y.shape, dtype, layout, device)
    kept = {"nothing": 0, "x": x.nbytes + noise_bytes, "output": y.nbytes}[op.kept]
    no_demodulation = way == "peer-style"
    backward_pass = partial(torch.autograd.grad, y, leaves, g, retain_graph=True, allow_unused=no_demodulation)
    return Run(backward_pass, g.nbytes + kept + x.nbytes)


def prepare_r1(way: str, shape: Shape, dtype: torch.dtype, layout: Layout, device: torch.device) -> Run:
    """Return an R1 step of four 3x3 convolutions and leaky ReLUs: scores, their slope, and its double backward.

    Args:
        way: ours (own double backward), composition (torch's), or peer-style (torch's, in float32 and NCHW).
        shape: Of the map.
        dtype: Of map and weights.
        layout: Of both.
        device: Of both.
    """
    if way == "peer-style":
        dtype, layout = torch.float32, "nchw"
    N, C, S = shape
    x = a_map("x", (N, C, S, S), dtype, layout, device).requires_grad_()
    weights = [a_map(f"w{i}", (C, C, 3, 3), dtype, layout, device) / (3 * C**0.5) for i in range(R1_LAYERS)]
    weights = [w.requires_grad_() for w in weights]
    own = way == "ours"

    def step() -> tuple[Tensor, ...]:
        y = x
        for w in weights:
            y = F.leaky_relu(ops.conv2d(y, w, padding=1) if own else F.conv2d(y, w, padding=1), LRELU_SLOPE)
        scores = y.float().sum()
        if own:
            with ops.no_weight_gradients():
                (slope,) = torch.autograd.grad(scores, x, create_graph=True)
        else:
            (slope,) = torch.autograd.grad(scores, x, create_graph=True)
        return torch.autograd.grad(slope.float().square().sum(), weights)

    return Run(step, None)


def prepare_copy(shape: Shape, dtype: torch.dtype, layout: Layout, device: torch.device) -> Run:
    """Return the copying of a map: the bandwidth that the machine gives such a map."""
    x = a_map("x", (shape.N, shape.C, shape.S, shape.S), dtype, layout, device)
    target = torch.empty_like(x)
    return Run(lambda: target.copy_(x), 2 * x.nbytes)
