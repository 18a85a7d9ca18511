"""Upsample, FIR-filter, downsample: the resampling of StyleGAN2 (Karras et al. 2020, appendix B).

``upfirdn2d`` does, for every channel on its own:

1. insert ``up - 1`` zeros after each sample (rows and columns),
2. pad by (x0, x1, y0, y1); negative values crop,
3. convolve with f (true convolution; ``flip=True`` correlates), keeping the valid region,
4. keep every ``down``-th sample.

It is linear in x, so its gradient is itself with ``up`` and ``down`` exchanged, and gradients of every order come
from this one operation.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.errors import UserError
from rtil.ops.plan import Plan, is_nhwc
from rtil.ops.tier import tier_of


def _ref(x: Tensor, f: Tensor, plan: Plan) -> Tensor:
    N, C, H, W = x.shape
    (ux, uy), (dx, dy) = plan.up, plan.down
    x = F.pad(x.reshape(N, C, H, 1, W, 1), [0, ux - 1, 0, 0, 0, uy - 1]).reshape(N, C, H * uy, W * ux)
    x = F.pad(x, list(plan.pad))
    weight = (_outer(f) if plan.flip else _outer(f).flip([0, 1])).to(x.dtype) * plan.gain
    x = F.conv2d(x.reshape(N * C, 1, *x.shape[2:]), weight[None, None])
    return x.reshape(N, C, *x.shape[2:])[:, :, ::dy, ::dx]


def _outer(f: Tensor) -> Tensor:
    return f[:, None] * f[None, :] if f.ndim == 1 else f


def _native(x: Tensor, f: Tensor, plan: Plan) -> Tensor:
    f = _outer(f)
    if plan.up == (1, 1):
        return _filter_then_keep(x, f, plan)
    return _spread_then_filter(x, f, plan)


def _filter_then_keep(x: Tensor, f: Tensor, plan: Plan) -> Tensor:
    """Depthwise strided convolution: no zeros inserted, nothing computed and thrown away."""
    C = x.shape[1]
    px0, px1, py0, py1 = plan.pad
    inside = px0 == px1 >= 0 and py0 == py1 >= 0
    if not inside:
        x = F.pad(x, list(plan.pad))
    weight = (f if plan.flip else f.flip([0, 1])).mul(plan.gain).to(x.dtype).expand(C, 1, *f.shape)
    return F.conv2d(x, weight, stride=plan.down[::-1], padding=(py0, px0) if inside else 0, groups=C)


def _spread_then_filter(x: Tensor, f: Tensor, plan: Plan) -> Tensor:
    """Depthwise transposed convolution, which skips the inserted zeros, cropped to the padded frame."""
    C, dtype = x.shape[1], x.dtype
    layout = torch.channels_last if is_nhwc(x) else torch.contiguous_format
    if dtype.itemsize == 2 and not x.is_cuda:
        x = x.float()  # in two bytes its depthwise transposed convolution measured 10 to 80 times slower
    weight = (f.flip([0, 1]) if plan.flip else f).mul(plan.gain).to(x.dtype).expand(C, 1, *f.shape)
    out_h, out_w = plan._replace(down=(1, 1)).output_size(x.shape[2], x.shape[3], f)
    fh, fw = f.shape
    px0, _, py0, _ = plan.pad
    left, top = fw - 1 - px0, fh - 1 - py0  # first sample kept of the full convolution
    extra_x = out_w - ((x.shape[3] - 1) * plan.up[0] + fw - 2 * left)
    extra_y = out_h - ((x.shape[2] - 1) * plan.up[1] + fh - 2 * top)
    if left >= 0 and top >= 0 and 0 <= extra_x < plan.up[0] and 0 <= extra_y < plan.up[1]:
        y = F.conv_transpose2d(x, weight, None, plan.up[::-1], (top, left), (extra_y, extra_x), C)
    else:
        y = F.conv_transpose2d(x, weight, stride=plan.up[::-1], groups=C)
        y = F.pad(y, [-left, out_w - y.shape[3] + left, -top, out_h - y.shape[2] + top])
    if plan.down != (1, 1):
        y = y[:, :, :: plan.down[1], :: plan.down[0]]
    return y.contiguous(memory_format=layout).to(dtype)


class _UpFirDn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Tensor, plan: Plan) -> Tensor:
        ctx.save_for_backward(f)
        ctx.adjoint = plan.adjoint(x.shape[2], x.shape[3], f)
        return _native(x, f, plan)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        (f,) = ctx.saved_tensors
        return _UpFirDn.apply(grads[0], f, ctx.adjoint), None, None


def fir_filter(taps: Sequence[float] = (1, 3, 3, 1)) -> Tensor:
    """Return the taps [k] of a separable filter, float32, with sum 1."""
    f = torch.tensor(taps, dtype=torch.float32)
    return f / f.sum()


def upfirdn2d(
    x: Tensor,
    f: Tensor,
    up: int | tuple[int, int] = 1,
    down: int | tuple[int, int] = 1,
    padding: int | tuple[int, int, int, int] = 0,
    flip: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Upsample, filter and downsample a batch of maps; see the module's numbered steps.

    Args:
        x: [N, C, H, W], any floating type.
        f: Filter [fh, fw], or the taps [k] of a separable one, their outer product; not differentiated.
        up: Zeros-insertion factor, one number or (x, y).
        down: Decimation factor, one number or (x, y).
        padding: One number or (x0, x1, y0, y1) with respect to the upsampled map; negative crops.
        flip: True correlates, False convolves.
        gain: Factor on the output.

    Returns:
        [N, C, (H up + y0 + y1 - fh + down) // down, ...], same type and layout as x.

    Raises:
        UserError: If nothing would be left of the map.
    """
    ux_uy = (up, up) if isinstance(up, int) else up
    dx_dy = (down, down) if isinstance(down, int) else down
    pad = (padding,) * 4 if isinstance(padding, int) else padding
    plan = Plan(ux_uy, dx_dy, pad, flip, gain)
    if min(plan.output_size(x.shape[2], x.shape[3], f)) < 1:
        raise UserError(f"upfirdn2d: a {tuple(x.shape[2:])} map is smaller than the {tuple(f.shape)} filter, {plan}")
    tier = tier_of("upfirdn2d", x)
    if tier == "ref":
        return _ref(x, f, plan)
    if tier == "ext":
        return torch.ops.rtil.upfirdn2d(x, f, *plan)
    return _UpFirDn.apply(x, f, plan)


def upsample2d(x: Tensor, f: Tensor) -> Tensor:
    """Double H and W of x [N, C, H, W] with the interpolating filter f [k] or [k, k]."""
    k = f.shape[-1]
    p0, p1 = (k + 1) // 2, (k - 2) // 2
    return upfirdn2d(x, f, up=2, padding=(p0, p1, p0, p1), gain=4)


def downsample2d(x: Tensor, f: Tensor) -> Tensor:
    """Halve H and W of x [N, C, H, W] with the low-pass filter f [k] or [k, k]."""
    k = f.shape[-1]
    p0, p1 = (k - 1) // 2, (k - 2) // 2
    return upfirdn2d(x, f, down=2, padding=(p0, p1, p0, p1))
