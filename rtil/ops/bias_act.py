"""Bias, activation and gain in one call: y = gain * act(x + b)."""

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Activation = Literal["linear", "lrelu"]
LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2)


def bias_act(x: Tensor, b: Tensor | None, act: Activation = "lrelu", gain: float | None = None) -> Tensor:
    """Add a bias over dimension 1, activate and scale.

    Args:
        x: [N, C, ...].
        b: [C] or None; cast to the type of x.
        act: ``lrelu`` (slope 0.2) or ``linear``.
        gain: Factor on the output; None means sqrt(2) for lrelu and 1 for linear.
    """
    if gain is None:
        gain = LRELU_GAIN if act == "lrelu" else 1.0
    if b is not None:
        x = x + b.to(x.dtype).reshape(1, -1, *[1] * (x.ndim - 2))
    if act == "lrelu":
        x = F.leaky_relu(x, LRELU_SLOPE)
    return x * gain if gain != 1 else x
