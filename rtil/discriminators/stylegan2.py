"""StyleGAN2's discriminator (Karras et al. 2020, architecture ``resnet``).

A 1x1 fromRGB, one residual block per side down to 4x4, the minibatch standard deviation as an extra channel, a 3x3
convolution and two linear layers. Samples of a batch meet only in the minibatch standard deviation: sample i shares a
group with i + N/G, i + 2N/G, ...; :func:`group_of_sample` says so to whoever must not mix kinds inside a group.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from rtil.generators.layers import EqualConv2d, EqualLinear
from rtil.generators.recompute import recomputed
from rtil.generators.stylegan2 import RTIL_CHANNELS
from rtil.layout import check_channels
from rtil.ops import fir_filter
from rtil.ops.plan import exact_type

MAX_GROUP = 4


def group_size(n: int) -> int:
    """Return the largest divisor of n that is at most 4: the samples that share a standard deviation."""
    return max(g for g in range(1, MAX_GROUP + 1) if n % g == 0)


def group_of_sample(n: int) -> Tensor:
    """Return the minibatch-standard-deviation group [n] of every sample of a batch of n."""
    return torch.arange(n) % (n // group_size(n))


def append_group_std(x: Tensor) -> Tensor:
    """Append the standard deviation over each group, averaged over C, H, W, as a channel: [N, C+1, H, W]."""
    N, _, H, W = x.shape
    G = group_size(N)
    y = x.to(exact_type(x)).unflatten(0, (G, N // G))  # [G M C H W]
    y = (y - y.mean(dim=0)).square().mean(dim=0)  # [M C H W]
    y = (y + 1e-8).sqrt().mean(dim=(1, 2, 3), keepdim=True)  # [M 1 1 1]
    return torch.cat([x, y.repeat(G, 1, H, W).to(x.dtype)], dim=1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the second halving the map, beside a filtered 1x1 skip; both scaled by 1/sqrt(2)."""

    def __init__(self, in_channels: int, out_channels: int, fir: Tensor) -> None:
        super().__init__()
        self.conv0 = EqualConv2d(in_channels, in_channels, 3)
        half = math.sqrt(0.5)
        self.conv1 = EqualConv2d(in_channels, out_channels, 3, fir=fir, out_gain=half)
        self.skip = EqualConv2d(in_channels, out_channels, 1, fir=fir, bias=False, act="linear", out_gain=half)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, I, H, W] to [N, O, H/2, W/2]."""
        return self.conv1(self.conv0(x)) + self.skip(x)


class StyleGAN2Discriminator(nn.Module):
    """StyleGAN2's residual discriminator.

    Args:
        resolution: Side of the pictures, a power of two of at least 8.
        channels: {side: width}; None takes RTIL's table (7,219,009 parameters at 256 px).

    Attributes:
        compute_dtype: Type of the residual blocks (None: the parameters' own); the 4x4 part always runs in the
            parameters' own type, as its statistics and scores need the precision.
        activation_checkpointing: Keep each residual block's input only for a backward pass.
    """

    compute_dtype: torch.dtype | None = None
    activation_checkpointing: bool = False

    def __init__(self, resolution: int, channels: Mapping[int, int] | None = None) -> None:
        super().__init__()
        self.resolution = resolution
        self.channels = check_channels(channels or RTIL_CHANNELS, resolution)
        fir = fir_filter()
        widths = list(self.channels.values())[::-1]
        self.fromrgb = EqualConv2d(3, widths[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(i, o, fir) for i, o in pairwise(widths))
        self.conv = EqualConv2d(widths[-1] + 1, widths[-1], 3)
        self.fc = EqualLinear(widths[-1] * 16, widths[-1], act="lrelu")
        self.out = EqualLinear(widths[-1], 1)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain JSON values."""
        return {"resolution": self.resolution, "channels": {str(s): c for s, c in self.channels.items()}}

    def forward(self, images: Tensor) -> Tensor:
        """Score images [N, 3, R, R] in [-1, 1]: [N], high for real."""
        x = images.to(self.compute_dtype or images.dtype, memory_format=torch.channels_last)
        x = self.fromrgb(x)
        for block in self.blocks:
            x = recomputed(block, x) if self.activation_checkpointing else block(x)
        x = self.conv(append_group_std(x.to(self.out.weight.dtype)))
        return self.out(self.fc(x.flatten(1))).squeeze(1)
