"""The one place where picture ranges are converted.

Generators and discriminators speak [-1, 1]; operators, metrics, files and the public API speak [0, 1].
"""

import torch


def to_unit(x: torch.Tensor) -> torch.Tensor:
    """Map generator units [-1, 1] to [0, 1], without clamping."""
    return (x + 1) / 2


def to_signed(x: torch.Tensor) -> torch.Tensor:
    """Map [0, 1] to generator units [-1, 1]."""
    return x * 2 - 1


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    """Map [0, 1], clamped, to bytes 0..255, rounded to nearest."""
    return x.clamp(0, 1).mul(255).round().to(torch.uint8)


def uint8_to_signed(x: torch.Tensor) -> torch.Tensor:
    """Map bytes 0..255 to generator units [-1, 1]."""
    return x.to(torch.float32).div(127.5).sub(1)
