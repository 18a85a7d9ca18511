"""What generators and discriminators share: tables of widths, layers of equalised learning rate (Karras et al. 2018).

Weights are stored with unit variance and scaled at run time by gain/sqrt(fan_in), so that Adam moves all layers at the
same relative speed.
"""

import math

import torch
from torch import Tensor, nn

from rtil.generators.constant import of_weights
from rtil.ops import bias_act, conv2d, downsample2d, upfirdn2d
from rtil.ops.bias_act import LRELU_GAIN, Activation


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
        weight = of_weights(self.weight, "scaled", lambda: self.weight * self.scale)
        return bias_act(x @ weight.t(), self.bias if self.lr_mul == 1 else self.bias * self.lr_mul, self.act)


class EqualConv2d(nn.Module):
    """Convolution [N, I, H, W] -> [N, O, H', W'], optionally low-passed and halved, with bias and activation.

    Args:
        in_channels: I.
        out_channels: O.
        kernel: Odd side of the kernel.
        fir: Taps [k] of the low-pass filter with which the map is halved; None keeps its size.
        bias: Whether there is one.
        act: Activation; lrelu has gain sqrt(2).
        gain: Factor on the weights.
        out_gain: Factor on the output, positive.
    """

    fir: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        fir: Tensor | None = None,
        bias: bool = True,
        act: Activation = "lrelu",
        gain: float = 1,
        out_gain: float = 1,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = gain / math.sqrt(in_channels * kernel**2)
        self.kernel = kernel
        self.act: Activation = act
        self.out_gain = out_gain
        self.register_buffer("fir", fir, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, I, H, W] to [N, O, H, W], or half that side."""
        # the activation is positively homogeneous: gains behind it ride on weights and bias instead of the whole map
        gain = self.out_gain * (LRELU_GAIN if self.act == "lrelu" else 1)
        w = of_weights(self.weight, x.dtype, lambda: self._prepared(x.dtype, gain))
        if self.fir is None:
            y = conv2d(x, w, padding=self.kernel // 2)
        elif self.kernel == 1:
            y = conv2d(downsample2d(x, self.fir), w)
        else:  # the filter first, then a strided convolution (Karras et al. 2020, appendix B)
            y = conv2d(upfirdn2d(x, self.fir, padding=(len(self.fir) + self.kernel - 3) // 2), w, stride=2)
        b = self.bias if self.bias is None or gain == 1 else self.bias * gain
        return bias_act(y, b, self.act, gain=1)

    def _prepared(self, dtype: torch.dtype, gain: float) -> Tensor:
        return (self.weight * (self.scale * gain)).to(dtype, memory_format=torch.channels_last)
