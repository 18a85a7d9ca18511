"""Layers shared by generators and discriminators: equalised learning rate, pixel norm (Karras et al. 2018, section 4).

Weights are stored with unit variance and scaled at run time by gain/sqrt(fan_in), so that Adam moves all layers at the
same relative speed. Pixel norm has its first two derivatives written by hand: torch's own take three to four times as
long on a CPU and keep three maps for each layer instead of one.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rtil.ops import bias_act, conv2d, upfirdn2d
from rtil.ops.bias_act import Activation


class EqualLinear(nn.Module):
    """Fully connected layer [N, I] -> [N, O] with activation.

    Args:
        in_features: I.
        out_features: O.
        bias_init: Start value of the bias, as it acts.
        lr_mul: Learning-rate multiplier of weights and bias (0.01 in the mapping network).
        act: Activation; lrelu has gain sqrt(2).
        gain: Factor on the weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias_init: float = 0,
        lr_mul: float = 1,
        act: Activation = "linear",
        gain: float = 1,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_mul))
        self.scale = gain * lr_mul / math.sqrt(in_features)
        self.lr_mul = lr_mul
        self.act: Activation = act

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, I] to [N, O]."""
        return bias_act(x @ (self.weight * self.scale).t(), self.bias * self.lr_mul, self.act)


class EqualConv2d(nn.Module):
    """Convolution [N, I, H, W] -> [N, O, H', W'], optionally low-passed and halved, with bias and activation.

    Args:
        in_channels: I.
        out_channels: O.
        kernel: Odd side of the kernel.
        down: Halve the map: FIR filter, then a strided convolution (a 1x1 kernel runs on the halved map).
        bias: Whether there is one.
        act: Activation; lrelu has gain sqrt(2).
        gain: Factor on the weights.
    """

    fir: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        fir: Tensor | None = None,
        bias: bool = True,
        act: Activation = "lrelu",
        gain: float = 1,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = gain / math.sqrt(in_channels * kernel**2)
        self.kernel = kernel
        self.act: Activation = act
        self.down = fir is not None
        if fir is not None:
            self.register_buffer("fir", fir, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, I, H, W] to [N, O, H, W], or half that side."""
        w = (self.weight * self.scale).to(x.dtype, memory_format=torch.channels_last)
        if not self.down:
            x = conv2d(x, w, padding=self.kernel // 2)
        elif self.kernel == 1:
            pad = (self.fir.shape[0] - 2) // 2
            x = conv2d(upfirdn2d(x, self.fir, down=2, padding=pad), w)
        else:
            pad = (self.fir.shape[0] - 2 + self.kernel - 1) // 2
            x = conv2d(upfirdn2d(x, self.fir, padding=pad), w, stride=2)
        return bias_act(x, self.bias, self.act)


PIXEL_NORM_EPS = 1e-8


class _PixelNorm(torch.autograd.Function):
    """o = lrelu(r x) with r = rsqrt(mean_C(x^2) + eps); returns o and r, from which x can be told."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> tuple[Tensor, Tensor]:
        exact = torch.promote_types(x.dtype, torch.float32)
        r = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=exact)
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
    return _PixelNorm.apply(x, slope)[0]
