"""Fake kernels and derivatives of the compiled operations, for autograd of any order and for ``torch.compile``.

``upfirdn2d`` is linear: its derivative is itself with the adjoint plan. The leaky ReLU is piecewise linear: its
derivative, ``bias_act_grad``, is linear in the gradient and constant in the map almost everywhere, so it is its own
derivative. The styled tail's derivative is one fused pass, and where a graph of it is wanted, a composition of these.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rtil.ops.plan import Plan, after_up_convolution, is_nhwc
from rtil.ops.weight_gradients import weight_gradients_wanted

_ops: Any = torch.ops.rtil


def register() -> None:
    """Register everything with the loaded library's operations."""
    fakes: dict[str, Callable[..., Any]] = {
        "upfirdn2d": _fake_upfirdn2d,
        "bias_act": lambda x, b, slope, gain: _empty_like(x),
        "bias_act_grad": lambda g, y, slope, gain: _empty_like(y),
        "styled_tail": _fake_styled_tail,
        "styled_tail_grad": _fake_styled_tail_grad,
        "counter_normal": lambda shape, key, like: like.new_empty(shape, dtype=torch.float32),
    }
    for name, fake in fakes.items():
        torch.library.register_fake(f"rtil::{name}", fake)
    for name, backward, setup in (
        ("upfirdn2d", _backward_upfirdn2d, _setup_upfirdn2d),
        ("bias_act", _backward_bias_act, _setup_bias_act),
        ("bias_act_grad", _backward_bias_act_grad, _setup_bias_act_grad),
        ("styled_tail", _backward_styled_tail, _setup_styled_tail),
    ):
        torch.library.register_autograd(f"rtil::{name}", backward, setup_context=setup)


def _exact(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _empty_map(x: Tensor, height: int, width: int) -> Tensor:
    layout = torch.channels_last if is_nhwc(x) else torch.contiguous_format
    return torch.empty(*x.shape[:2], height, width, dtype=x.dtype, device=x.device, memory_format=layout)


def _empty_like(x: Tensor) -> Tensor:
    return _empty_map(x, x.shape[2], x.shape[3]) if x.ndim == 4 else x.new_empty(x.shape)


# upfirdn2d(x, f, up, down, pad, flip, gain)


def _plan(up: list[int], down: list[int], pad: list[int], flip: bool, gain: float) -> Plan:
    return Plan((up[0], up[1]), (down[0], down[1]), (pad[0], pad[1], pad[2], pad[3]), flip, gain)


def _fake_upfirdn2d(x: Tensor, f: Tensor, *plan: Any) -> Tensor:
    return _empty_map(x, *_plan(*plan).output_size(x.shape[2], x.shape[3], f))


def _setup_upfirdn2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, f, *plan = inputs
    ctx.save_for_backward(f)
    ctx.adjoint = _plan(*plan).adjoint(x.shape[2], x.shape[3], f)


def _backward_upfirdn2d(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    (f,) = ctx.saved_tensors
    return _ops.upfirdn2d(g, f, *ctx.adjoint), None, None, None, None, None, None


# bias_act(x, b, slope, gain) and bias_act_grad(g, y, slope, gain)


def _setup_bias_act(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, *ctx.settings = inputs
    ctx.save_for_backward(output)


def _backward_bias_act(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    (y,) = ctx.saved_tensors
    slope, gain = ctx.settings
    need_b = ctx.needs_input_grad[1] and weight_gradients_wanted()
    if need_b and y.ndim == 4 and not torch.is_grad_enabled():
        # y has the sign of x + b: the tail's gradient kernel makes the gradient and its sums in one pass
        no_bias = y.new_zeros(y.shape[1], dtype=_exact(y))
        gx, _, sum_g, *_ = _ops.styled_tail_grad(g, y, None, None, None, None, no_bias, 0, slope, gain, False, False)
        return gx, sum_g.sum(0), None, None
    gx = _ops.bias_act_grad(g, y, slope, gain)
    gb = gx.sum([dim for dim in range(gx.ndim) if dim != 1], dtype=_exact(y)) if need_b else None
    return gx, gb, None, None


def _setup_bias_act_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, y, *ctx.settings = inputs
    ctx.save_for_backward(y)


def _backward_bias_act_grad(ctx: Any, gg: Tensor) -> tuple[Tensor | None, ...]:
    (y,) = ctx.saved_tensors
    return _ops.bias_act_grad(gg, y, *ctx.settings), None, None, None


# styled_tail(x, fir, d, noise, strength, b, z1, sigma, noise_key, z1_key, slope, gain)


def _fake_styled_tail(x: Tensor, fir: Tensor | None, *rest: Any) -> Tensor:
    if fir is None:
        return _empty_like(x)
    return _empty_map(x, *after_up_convolution(len(fir)).output_size(x.shape[2], x.shape[3], fir))


def _fake_styled_tail_grad(
    g: Tensor, x: Tensor, fir: Tensor | None, d: Any, noise: Any, strength: Any, b: Any, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    need_strength, need_noise = rest[-2:]
    N, C, H, W = g.shape
    sum_gu, sum_g = (x.new_empty(N, C, dtype=_exact(x)) for _ in range(2))
    sum_gn = x.new_empty(() if need_strength else (0,), dtype=_exact(x))
    sum_c = x.new_empty((N, 1, H, W) if need_noise else (0,), dtype=_exact(x))
    return _empty_map(x, H, W), sum_gu, sum_g, sum_gn, sum_c


def _setup_styled_tail(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, fir, d, noise, strength, b, _, _, noise_key, _, slope, gain = inputs
    ctx.save_for_backward(x, fir, d, noise, strength, b)
    ctx.settings = noise_key, slope, gain


def _backward_styled_tail(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, fir, d, noise, strength, b = ctx.saved_tensors
    noise_key, slope, gain = ctx.settings
    need_x, _, need_d, need_noise, need_strength, need_b, need_z1, *_ = ctx.needs_input_grad
    need_strength, need_b = (need and weight_gradients_wanted() for need in (need_strength, need_b))
    gx = gd = g_noise = g_strength = gb = None
    if need_x or need_d or need_b or need_noise or need_strength:
        tail_grad = _tail_grad_with_graph if torch.is_grad_enabled() else _ops.styled_tail_grad
        h, sum_gu, sum_g, sum_gn, sum_c = tail_grad(
            g, x, fir, d, noise, strength, b, noise_key, slope, gain, need_strength, need_noise
        )
        if need_x:
            plan = None if fir is None else after_up_convolution(len(fir)).adjoint(x.shape[2], x.shape[3], fir)
            gx = h if plan is None else _ops.upfirdn2d(h, fir, *plan)
        if need_d:
            gd = sum_gu
        if need_b:
            gb = sum_g.sum(0)
        if need_noise:
            g_noise = (strength * sum_c).sum_to_size(noise.shape)
        if need_strength:
            g_strength = sum_gn
    return gx, None, gd, g_noise, g_strength, gb, g if need_z1 else None, None, None, None, None, None


def _tail_grad_with_graph(
    g: Tensor,
    x: Tensor,
    fir: Tensor | None,
    d: Tensor,
    noise: Tensor | None,
    strength: Tensor,
    b: Tensor,
    noise_key: int,
    slope: float,
    gain: float,
    need_strength: bool,
    need_noise: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return what ``styled_tail_grad`` returns, differentiable in g, x, d and noise."""
    with torch.no_grad():  # only the signs before the activation matter, and they are constant almost everywhere
        pre = _ops.styled_tail(x, fir, d, noise, strength, b, None, None, noise_key, 0, 1.0, 1.0)
    gp = _ops.bias_act_grad(g, pre, slope, gain)
    u = x if fir is None else _ops.upfirdn2d(x, fir, *after_up_convolution(len(fir)))
    sum_gu = (gp * u).sum((2, 3), dtype=_exact(x))
    h = gp * d.to(gp.dtype)[:, :, None, None]
    sum_gn = sum_c = gp.new_empty(0)
    if need_strength or need_noise:
        sum_c = gp.sum(1, keepdim=True, dtype=_exact(x))
    if need_strength:
        drawn = _ops.counter_normal(sum_c.shape, noise_key, sum_c.detach()) if noise is None else noise
        sum_gn = (drawn * sum_c).sum()
    return h, sum_gu, gp.sum((2, 3), dtype=_exact(x)), sum_gn, sum_c
