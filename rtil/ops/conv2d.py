"""Convolutions whose double backward is written by hand.

Torch computes the weight gradient of a convolution's double backward by a forward convolution whose kernel is the
whole feature map. In bfloat16 on AMX processors that returns garbage at 16, 32 and 64 px maps (silently: only weight
gradients of R1 and path length are wrong), and it is slow everywhere. Here every derivative, of any order, is one of
three primitives that close under differentiation, all with f(x, w) bilinear:

    y = conv(x, w)        dL/dx = conv_transposed(g, w)       dL/dw = weight_gradient(g, x)

so the derivative of ``weight_gradient`` in its two arguments is again ``conv`` and ``conv_transposed``. The tier
``ref`` is torch's own convolution with torch's own derivatives, in float32 at least.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.ops.plan import exact_type
from rtil.ops.tier import tier_of
from rtil.ops.weight_gradients import weight_gradients_wanted


class _Geometry(NamedTuple):
    """What defines a convolution beside its tensors; output_padding only where it is transposed."""

    stride: int
    padding: int
    output_padding: tuple[int, int]
    transposed: bool

    def run(self, x: Tensor, w: Tensor) -> Tensor:
        return torch.ops.aten.convolution(
            x, w, None, [self.stride] * 2, [self.padding] * 2, [1, 1], self.transposed, list(self.output_padding), 1
        )

    def adjoint(self, x: Tensor, w: Tensor) -> "_Geometry":
        """Return the geometry that maps output gradients back to the shape of x."""
        if self.transposed:
            return _Geometry(self.stride, self.padding, (0, 0), transposed=False)
        kernel = w.shape[2:]
        spare = [(n + 2 * self.padding - k) % self.stride for n, k in zip(x.shape[2:], kernel, strict=True)]
        return _Geometry(self.stride, self.padding, (spare[0], spare[1]), transposed=True)

    def weight_gradient(self, g: Tensor, x: Tensor, w_like: Tensor) -> Tensor:
        return torch.ops.aten.convolution_backward(
            g,
            x,
            w_like,
            None,
            [self.stride] * 2,
            [self.padding] * 2,
            [1, 1],
            self.transposed,
            list(self.output_padding),
            1,
            [False, True, False],
        )[1]


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        return geometry.run(x, w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (g,) = grads
        x, w = ctx.saved_tensors
        gx = gw = None
        if ctx.needs_input_grad[0]:
            gx = _Conv.apply(g, w, ctx.geometry.adjoint(x, w))
        if ctx.needs_input_grad[1] and weight_gradients_wanted():
            gw = _WeightGradient.apply(g, x, w, ctx.geometry)
        return gx, gw, None


class _WeightGradient(torch.autograd.Function):
    """dL/dw of ``geometry.run(x, w)``: bilinear in (g, x); w gives only its shape and layout."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w_like: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.geometry = geometry
        ctx.w_like = w_like.detach()
        return geometry.weight_gradient(g, x, w_like)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (gw,) = grads
        g, x = ctx.saved_tensors
        grad_g = grad_x = None
        if ctx.needs_input_grad[0]:
            grad_g = _Conv.apply(x, gw, ctx.geometry)
        if ctx.needs_input_grad[1]:
            grad_x = _Conv.apply(g, gw, ctx.geometry.adjoint(x, ctx.w_like))
        return grad_g, grad_x, None, None


def conv2d(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Correlate x [N, I, H, W] with w [O, I, k, k], as ``torch.nn.functional.conv2d``, twice differentiable."""
    if tier_of("conv2d", x) == "ref":
        return F.conv2d(*_exactly(x, w), stride=stride, padding=padding).to(x.dtype)
    return _Conv.apply(x, w, _Geometry(stride, padding, (0, 0), transposed=False))


def conv_transpose2d(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Transposed convolution of x [N, I, H, W] with w [I, O, k, k], twice differentiable."""
    if tier_of("conv_transpose2d", x) == "ref":
        return F.conv_transpose2d(*_exactly(x, w), stride=stride, padding=padding).to(x.dtype)
    return _Conv.apply(x, w, _Geometry(stride, padding, (0, 0), transposed=True))


def _exactly(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float32 at least, in which torch's double backward is right everywhere."""
    return x.to(exact_type(x)), w.to(exact_type(x))
