"""Bias, activation, gain and clamp in one call: y = clip(gain * act(x + b), -clamp, clamp)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.ops.tier import tier_of

Activation = Literal["linear", "lrelu"]
LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2)


def bias_act(
    x: Tensor, b: Tensor | None, act: Activation = "lrelu", gain: float | None = None, clamp: float | None = None
) -> Tensor:
    """Add a bias over dimension 1, activate, scale and clip.

    Args:
        x: [N, C, ...].
        b: [C] or None.
        act: ``lrelu`` (slope 0.2) or ``linear``.
        gain: Factor on the output, positive; None means sqrt(2) for lrelu and 1 for linear.
        clamp: Largest absolute value of the output, where the gradient is 0; None is no limit.

    Returns:
        Same shape, type and layout; differentiable any number of times.
    """
    slope = LRELU_SLOPE if act == "lrelu" else 1.0
    if gain is None:
        gain = LRELU_GAIN if act == "lrelu" else 1.0
    alone = slope == 1 and clamp is None  # then it is torch's addition, which no kernel of ours beats
    if not alone and tier_of("bias_act", x) == "ext":
        b = None if b is None else b.to(torch.promote_types(x.dtype, torch.float32))
        return torch.ops.rtil.bias_act(x, b, slope, gain, -1.0 if clamp is None else clamp)
    if b is not None:
        x = x + b.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    if slope != 1:
        x = F.leaky_relu(x, slope)
    if gain != 1:
        x = x * gain
    return x if clamp is None else F.hardtanh(x, -clamp, clamp)
