"""Pixel norm with the leaky ReLU behind it (Karras et al. 2018, section 4.2): o = lrelu(x rsqrt(mean_C(x^2) + eps)).

Its first two derivatives are written by hand: torch's own take three to four times as long on a CPU and keep three maps
for each layer instead of one.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from rtil.ops.plan import exact_type
from rtil.ops.tier import tier_of

PIXEL_NORM_EPS = 1e-8


class _PixelNorm(torch.autograd.Function):
    """o = lrelu(r x) with r = rsqrt(mean_C(x^2) + eps); returns o and r, from which x can be told."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> tuple[Tensor, Tensor]:
        r = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=exact_type(x))
        r = r.square_().div_(x.shape[1]).add_(PIXEL_NORM_EPS).rsqrt_()
        o = x * r.to(x.dtype)
        if slope != 1:
            F.leaky_relu_(o, slope)
        ctx.save_for_backward(o, r)
        ctx.slope = slope
        ctx.set_materialize_grads(False)
        return o, r

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None]:
        o, r = ctx.saved_tensors
        grad_o, grad_r = grads
        if grad_o is None:
            grad_o = torch.zeros_like(o)
        return _PixelNormGradient.apply(grad_o, grad_r, o, r, ctx.slope), None


class _PixelNormGradient(torch.autograd.Function):
    """The gradient of x, where s is 1 or the slope by the sign of o, and u = o / s the normalised x.

    gx = r (s g - u m) with m = mean_C(g o) + grad_r r / C
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, grad_r: Tensor | None, o: Tensor, r: Tensor, slope: float) -> Tensor:
        m = (g * o).mean(1, keepdim=True, dtype=r.dtype)
        if grad_r is not None:
            m += grad_r * r / o.shape[1]
        ctx.save_for_backward(g, o, r, m)
        ctx.slope = slope
        ctx.order = 1 if grad_r is None else 2  # a gradient of r comes from the backward below only
        gx = _times_slope(g, o, slope).mul_(r.to(o.dtype))
        return gx.addcmul_(F.leaky_relu(o, 1 / slope), (m * r).to(o.dtype), value=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        if ctx.order > 1:
            raise RuntimeError("pixel_norm can be differentiated twice, not three times")
        (h,) = grads
        g, o, r, m = ctx.saved_tensors
        s_h, h_per_s = _times_slope(h, o, ctx.slope), _times_slope(h, o, 1 / ctx.slope)
        h_u = (h_per_s * o).sum(1, keepdim=True, dtype=r.dtype)
        to_r = (s_h * g).sum(1, keepdim=True, dtype=r.dtype) - h_u * m
        q = h_u * r / o.shape[1]
        to_g = s_h.mul_(r.to(o.dtype)).addcmul_(o, q.to(o.dtype), value=-1)
        to_o = h_per_s.mul_((-m * r).to(o.dtype)).addcmul_(g, q.to(o.dtype), value=-1)
        return to_g, None, to_o, to_r, None


def _times_slope(g: Tensor, o: Tensor, slope: float) -> Tensor:
    """Return a new tensor: g where o > 0, slope g elsewhere."""
    return torch.ops.aten.leaky_relu_backward(g, o, slope, True)


def pixel_norm(x: Tensor, slope: float = 1) -> Tensor:
    """Scale every pixel to unit mean square over its channels, then apply leaky ReLU (Karras et al. 2018, section 4.2).

    Args:
        x: [N, C, ...]; the mean over C is taken in float32 also for bfloat16.
        slope: Of the leaky ReLU, positive; 1 leaves it out.

    Returns:
        Same shape, type and layout; twice differentiable.
    """
    if tier_of("pixel_norm", x) == "ref":
        exact = x.to(exact_type(x))
        unit = (exact * (exact.square().mean(1, keepdim=True) + PIXEL_NORM_EPS).rsqrt()).to(x.dtype)
        return unit if slope == 1 else F.leaky_relu(unit, slope)
    return _PixelNorm.apply(x, slope)[0]
