"""The parameters of an upfirdn2d and its adjoint; the layout of a map."""

from typing import NamedTuple

import torch
from torch import Tensor


def is_nhwc(x: Tensor) -> bool:
    """Return whether x [N, C, H, W] lies in memory as N H W C (and not as N C H W, too)."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def exact_type(x: Tensor) -> torch.dtype:
    """Return the type in which sums and parameters beside a map are kept: float32, or float64 if x is."""
    return torch.promote_types(x.dtype, torch.float32)


def filter_size(f: Tensor) -> tuple[int, int]:
    """Return (fh, fw) of a filter [fh, fw], or (k, k) of the taps [k] of a separable one."""
    return (f.shape[0], f.shape[0]) if f.ndim == 1 else (f.shape[0], f.shape[1])


class Plan(NamedTuple):
    """Resampling parameters, each as (x, y) or (x0, x1, y0, y1)."""

    up: tuple[int, int]
    down: tuple[int, int]
    pad: tuple[int, int, int, int]
    flip: bool
    gain: float

    def output_size(self, height: int, width: int, f: Tensor) -> tuple[int, int]:
        """Return (H', W') of what a map of this size becomes."""
        fh, fw = filter_size(f)
        px0, px1, py0, py1 = self.pad
        out_w = (width * self.up[0] + px0 + px1 - fw + self.down[0]) // self.down[0]
        out_h = (height * self.up[1] + py0 + py1 - fh + self.down[1]) // self.down[1]
        return out_h, out_w

    def adjoint(self, height: int, width: int, f: Tensor) -> "Plan":
        """Return the plan whose operation is the transpose of this one on [.., height, width] maps."""
        fh, fw = filter_size(f)
        px0, _, py0, _ = self.pad
        out_h, out_w = self.output_size(height, width, f)
        pad = (
            fw - px0 - 1,
            width * self.up[0] - out_w * self.down[0] + px0 - self.up[0] + 1,
            fh - py0 - 1,
            height * self.up[1] - out_h * self.down[1] + py0 - self.up[1] + 1,
        )
        return Plan(self.down, self.up, pad, not self.flip, self.gain)


def after_up_convolution(taps: int) -> Plan:
    """Return the plan of the FIR that brings the 2H+1 rows of an up-convolution to 2H (gain 4: zeros were inserted)."""
    before, after = (taps - 1) // 2, (taps - 2) // 2
    return Plan((1, 1), (1, 1), (before, after, before, after), flip=False, gain=4.0)
