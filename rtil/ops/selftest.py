"""Does every operation compute the same as its reference here, to second order, in every type?

Each case is run by the tier under test, in both layouts, and by an oracle in float64 on the same (rounded) inputs.
Compared are the value, the gradient of every input, and the gradients of <gradients, fixed directions> with respect to
every input and to the incoming gradient: what R1 and path length use. The convolution on 16 px maps in bfloat16 is
where torch's own double backward is wrong by about 100 % on processors with AMX.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rtil import ops
from rtil.ops.bias_act import LRELU_GAIN, LRELU_SLOPE
from rtil.ops.tier import COMPILED
from rtil.seeds import generator

Shape = tuple[int, ...]
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
LAYOUTS = (torch.channels_last, torch.contiguous_format)
FIR = ops.fir_filter((1, 3, 3, 1))


@dataclass(frozen=True)
class Case:
    """One operation on small maps.

    Attributes:
        op: Its name.
        run: Called with the tensors below.
        maps: Shapes of the tensors in the type to compute in.
        parameters: Shapes of the tensors that are at least float32.
        oracle: Called with the same in float64; None means ``run`` in the tier ``ref``.
        draws: Whether it draws numbers itself, which are float32 in every type.
    """

    op: str
    run: Callable[..., Tensor]
    maps: tuple[Shape, ...] = ()
    parameters: tuple[Shape, ...] = ()
    oracle: Callable[..., Tensor] | None = None
    draws: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    Attributes:
        op: Its name.
        tier: Which was under test.
        device: "cpu" or "cuda".
        dtype: "float32".
        error: Largest of ||ours - oracle|| / ||oracle|| over value, gradients and second-order gradients; None if it is
            not a number or the operation raised.
        limit: What it may be.
        complaint: What was raised, in one line.
    """

    op: str
    tier: str
    device: str
    dtype: str
    error: float | None
    limit: float
    complaint: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the error is a number within its limit."""
        return self.error is not None and self.error <= self.limit


def _bias_act(x: Tensor, b: Tensor) -> Tensor:
    return ops.bias_act(x, _away_from_0(b))


def _bias_act_by_hand(x: Tensor, b: Tensor) -> Tensor:
    x = x + _away_from_0(b)[:, None, None]
    return LRELU_GAIN * torch.where(x > 0, x, LRELU_SLOPE * x)


def _away_from_0(b: Tensor) -> Tensor:
    """Return biases of both signs, so large that rounding takes no map to the other side of the leaky ReLU."""
    return b + 8 * (-1.0) ** torch.arange(len(b), device=b.device).to(b.dtype)


def _tail(x: Tensor, b: Tensor, d: Tensor, noise: Tensor, strength: Tensor) -> Tensor:
    return ops.styled_tail(x, _away_from_0(b), fir=FIR.to(x.device), d=d, noise=noise, strength=strength)


def _tail_with_z1(x: Tensor, z1: Tensor, b: Tensor, d: Tensor, noise: Tensor, strength: Tensor) -> Tensor:
    return ops.styled_tail(x, _away_from_0(b), d=d, noise=noise, strength=strength, z1=z1)


def _tail_that_draws(x: Tensor, b: Tensor, d: Tensor, strength: Tensor) -> Tensor:
    noise, z1 = ops.Drawn(2**63 + 5), ops.Drawn(7, torch.tensor([0.0, 1.5], device=x.device))
    return ops.styled_tail(x, _away_from_0(b), d=d, noise=noise, strength=strength, z1=z1)


def _resample(x: Tensor, up: int, down: int, padding: tuple[int, int, int, int]) -> Tensor:
    return ops.upfirdn2d(x, FIR.to(x.device), up=up, down=down, padding=padding, gain=float(up * up))


CASES = (
    Case("upfirdn2d", partial(_resample, up=2, down=1, padding=(2, 1, 2, 1)), maps=((2, 3, 5, 6),)),
    Case("upfirdn2d", partial(_resample, up=1, down=2, padding=(1, 1, -1, 2)), maps=((2, 16, 9, 8),)),
    Case("bias_act", _bias_act, maps=((2, 8, 5, 5),), parameters=((8,),), oracle=_bias_act_by_hand),
    Case("conv2d", partial(ops.conv2d, padding=1), maps=((4, 16, 16, 16), (16, 16, 3, 3))),
    Case("conv2d", partial(ops.conv2d, stride=2), maps=((2, 8, 9, 9), (8, 8, 3, 3))),
    Case("conv_transpose2d", partial(ops.conv_transpose2d, stride=2), maps=((2, 8, 8, 8), (8, 8, 3, 3))),
    Case("modulated_conv2d", ops.modulated_conv2d, maps=((2, 8, 8, 8),), parameters=((8, 8, 3, 3), (2, 8))),
    Case(
        "modulated_conv2d",
        partial(ops.modulated_conv2d, up=True),
        maps=((2, 8, 4, 4),),
        parameters=((8, 8, 3, 3), (2, 8)),
    ),
    Case("styled_tail", _tail, maps=((2, 8, 9, 9),), parameters=((8,), (2, 8), (2, 1, 8, 8), ())),
    Case("styled_tail", _tail_with_z1, maps=((2, 8, 7, 7),) * 2, parameters=((8,), (2, 8), (1, 1, 7, 7), ())),
    Case("styled_tail", _tail_that_draws, maps=((2, 8, 6, 8),), parameters=((8,), (2, 8), ()), draws=True),
    Case("pixel_norm", partial(ops.pixel_norm, slope=LRELU_SLOPE), maps=((2, 8, 5, 5),)),
    Case("upsample_bilinear2d", ops.upsample_bilinear2d, maps=((2, 3, 5, 6),)),
)


def tiers_of(op: str, compiled: bool) -> tuple[str, ...]:
    """Return the tiers of an operation that can be held against its oracle."""
    return ("native", "ext") if compiled and op in COMPILED else ("native",)


def check(case: Case, tier: str, device: str, dtype: torch.dtype) -> Outcome:
    """Run one case in a tier, on a device, in a type."""
    wide = torch.promote_types(dtype, torch.float32)
    kinds = [(shape, dtype) for shape in case.maps] + [(shape, wide) for shape in case.parameters]

    def both() -> tuple[list[Tensor], list[Tensor]]:
        rng = generator(0, f"selftest/{case.op}")
        inputs = [torch.randn(shape, generator=rng, dtype=torch.float64).to(device, kind) for shape, kind in kinds]
        maps, parameters = inputs[: len(case.maps)], inputs[len(case.maps) :]
        with using_tier("ref" if case.oracle is None else tier):
            exact = _derivatives(case.oracle or case.run, [x.double() for x in inputs])
        laid = ([x.contiguous(memory_format=layout) for x in maps] for layout in LAYOUTS)
        with using_tier(tier):
            ours = [t for of_layout in laid for t in _derivatives(case.run, [*of_layout, *parameters])]
        return ours, exact * len(LAYOUTS)

    limit = _limit(torch.float32 if case.draws and dtype == torch.float64 else dtype, device)
    return _compare(case.op, tier, device, dtype, limit, both)


def check_draws(tier: str, device: str) -> Outcome:
    """Hold the counter generator against its float64 reference."""
    shape, key = (3, 1001), 2**63 + 12345

    def both() -> tuple[list[Tensor], list[Tensor]]:
        with using_tier("ref"):
            exact = ops.counter_normal(shape, key)
        with using_tier(tier):
            return [ops.counter_normal(shape, key, device).cpu()], [exact]

    return _compare("counter_normal", tier, device, torch.float32, _limit(torch.float32, device), both)


def _compare(
    op: str,
    tier: str,
    device: str,
    dtype: torch.dtype,
    limit: float,
    both: Callable[[], tuple[list[Tensor], list[Tensor]]],
) -> Outcome:
    """Say how far ours are from the exact tensors; where a kernel crashed on a GPU even those cannot be had."""
    error, complaint = None, None
    try:
        distances = [_distance(a, b) for a, b in zip(*both(), strict=True)]
        error = max(distances) if all(map(math.isfinite, distances)) else None
    except (RuntimeError, ValueError) as raised:
        complaint = " ".join(str(raised).split())
    return Outcome(op, tier, device, str(dtype).removeprefix("torch."), error, limit, complaint)


def run_all(compiled: bool, devices: Sequence[str]) -> Iterator[Outcome]:
    """Check every case in every tier, device and type.

    Args:
        compiled: Whether the compiled library is there to be tested.
        devices: "cpu", "cuda".
    """
    for device in devices:
        for case in CASES:
            for tier in tiers_of(case.op, compiled):
                for dtype in DTYPES:
                    yield check(case, tier, device, dtype)
        for tier in tiers_of("counter_normal", compiled):
            yield check_draws(tier, device)


@contextmanager
def using_tier(tier: str) -> Iterator[None]:
    """Let a tier run all operations."""
    before = os.environ.get("RTIL_OPS")
    os.environ["RTIL_OPS"] = tier
    try:
        yield
    finally:
        if before is None:
            del os.environ["RTIL_OPS"]
        else:
            os.environ["RTIL_OPS"] = before


def _derivatives(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return value, gradients and second-order gradients along fixed directions."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    y = function(*leaves)
    g = _direction(y, 0).requires_grad_()
    first = torch.autograd.grad(y, leaves, g, create_graph=True)
    along = torch.stack([(f * _direction(f, 1)).sum().double() for f in first]).sum()
    second = torch.autograd.grad(along, [*leaves, g], allow_unused=True, materialize_grads=True)
    return [t.detach() for t in (y, *first, *second)]


def _direction(like: Tensor, index: int) -> Tensor:
    rng = generator(0, "selftest/direction", index)
    return torch.randn(like.shape, generator=rng).to(like.device, torch.bfloat16).to(like.dtype)


def _distance(ours: Tensor, exact: Tensor) -> float:
    size = float(exact.double().norm())
    return float((ours.double() - exact.double()).norm()) / (size or 1.0)


def _limit(dtype: torch.dtype, device: str) -> float:
    if dtype == torch.float64:
        return 1e-10
    if dtype == torch.bfloat16:
        return 0.06
    if dtype == torch.float16:
        return 0.06 / 8  # three more bits
    return 1e-5 if device == "cpu" else 5e-3  # TF32 convolutions
