"""Convolutions whose double backward is written by hand.

Torch computes the weight gradient of a convolution's double backward by a forward convolution whose kernel is the
whole feature map. In bfloat16 on AMX processors that returns garbage at 16, 32 and 64 px maps (silently: only weight
gradients of R1 and path length are wrong), and it is slow everywhere. Here every derivative, of any order, is one of
three primitives that close under differentiation, all with f(x, w) bilinear:

    y = conv(x, w)        dL/dx = conv_transposed(g, w)       dL/dw = weight_gradient(g, x)

so the derivative of ``weight_gradient`` in its two arguments is again ``conv`` and ``conv_transposed``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

_weight_gradients_skipped = 0


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Leave out the gradients of weights and biases in backward passes inside the ``with`` block.

    Weights are the second argument of the convolutions, biases and noise strengths those of ``bias_act`` and
    ``styled_tail``: only for networks whose weights and biases do not depend on what is differentiated by.

    R1 and path length differentiate a gradient that is taken with respect to pictures or styles only. Autograd does
    not tell an operation which of its inputs' gradients are asked for; without this, the inner pass of a regulariser
    computes every weight gradient, a third of its work, and throws it away.
    """
    global _weight_gradients_skipped
    _weight_gradients_skipped += 1
    try:
        yield
    finally:
        _weight_gradients_skipped -= 1


def weight_gradients_wanted() -> bool:
    """Return False inside :func:`no_weight_gradients`."""
    return _weight_gradients_skipped == 0


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
    return _Conv.apply(x, w, _Geometry(stride, padding, (0, 0), transposed=False))


def conv_transpose2d(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Transposed convolution of x [N, I, H, W] with w [I, O, k, k], twice differentiable."""
    return _Conv.apply(x, w, _Geometry(stride, padding, (0, 0), transposed=True))
