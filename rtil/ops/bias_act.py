"""Bias, activation and gain in one call: y = gain * act(x + b)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.ops.tier import tier_of

Activation = Literal["linear", "lrelu"]
LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2)


def bias_act(x: Tensor, b: Tensor | None, act: Activation = "lrelu", gain: float | None = None) -> Tensor:
    """Add a bias over dimension 1, activate and scale.

    Args:
        x: [N, C, ...].
        b: [C] or None.
        act: ``lrelu`` (slope 0.2) or ``linear``.
        gain: Factor on the output, positive; None means sqrt(2) for lrelu and 1 for linear.

    Returns:
        Same shape, type and layout; differentiable any number of times.
    """
    slope = LRELU_SLOPE if act == "lrelu" else 1.0
    if gain is None:
        gain = LRELU_GAIN if act == "lrelu" else 1.0
    if slope != 1 and tier_of("bias_act", x) == "ext":  # without, it is torch's addition, which no kernel beats
        b = None if b is None else b.to(torch.promote_types(x.dtype, torch.float32))
        return torch.ops.rtil.bias_act(x, b, slope, gain)
    if b is not None:
        x = x + b.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    if slope != 1:
        x = F.leaky_relu(x, slope)
    return x if gain == 1 else x * gain
