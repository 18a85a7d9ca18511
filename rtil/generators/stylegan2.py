"""StyleGAN2's generator (Karras et al. 2020, architecture ``skip``), cut open between its blocks.

Block 0 is a learned constant, one styled convolution and a ToRGB at 4x4; block b >= 1 doubles the side: an
up-convolution with FIR, a styled convolution, a ToRGB whose output is added to the upsampled picture so far.
A styled convolution is: modulated convolution, noise, bias, leaky ReLU. It takes style slot i and noise map i, with
i = 0 for block 0 and i = 2b-1, 2b for block b; the ToRGB of block b takes slot 2b+1, the next block's first.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from rtil.generators.base import LatentKind, LayeredGenerator, State
from rtil.generators.constant import of_weights
from rtil.generators.layers import EqualLinear
from rtil.layout import check_channels
from rtil.ops import (
    Noise,
    demodulation,
    energy,
    fir_filter,
    modulated_conv2d,
    styled_tail,
    upsample2d,
    weights_to_convolve,
)

RTIL_CHANNELS = {4: 256, 8: 256, 16: 256, 32: 256, 64: 256, 128: 128, 256: 64}
"""RTIL's table 1, resolved: 10,206,434 trainable parameters at 256 px (the 12,300,877 printed there counts the mapping
network twice and leaves out the constant and some biases)."""


class StyledConv(nn.Module):
    """Modulated convolution [N, I, H, W] -> [N, O, H or 2H, ...], noise, bias, leaky ReLU."""

    fir: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, fir: Tensor | None) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = 1 / math.sqrt(in_channels * 9)
        self.register_buffer("fir", fir, persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: Noise, z1: Noise | None = None) -> Tensor:
        """Run on x [N, I, H, W] with w [N, w_dim] and a noise map [N or 1, 1, H', W']; add z1 [N, O, H', W']."""
        s = self.affine(w)
        weight, w_energy = of_weights(self.weight, x.dtype, lambda: self._prepared(x))
        y = modulated_conv2d(x, weight, s, up=self.fir is not None)
        return styled_tail(
            y,
            self.bias,
            d=demodulation(w_energy, s),
            noise=noise,
            strength=self.noise_strength,
            fir=self.fir,
            z1=z1,
        )

    def _prepared(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight * self.scale
        return weights_to_convolve(weight, x), energy(weight)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to 3 channels, without demodulation; float32 out."""

    def __init__(self, in_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.scale = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x [N, C, H, W] and w [N, w_dim] to rgb [N, 3, H, W]."""
        weight = of_weights(self.weight, x.dtype, lambda: weights_to_convolve(self.weight * self.scale, x))
        y = modulated_conv2d(x, weight, self.affine(w))
        y = y.to(self.bias.dtype, memory_format=torch.contiguous_format)  # in which three channels are upsampled faster
        return y + self.bias[None, :, None, None]


class Block(nn.Module):
    """The layers at one side: (up-convolution,) convolution, ToRGB."""

    def __init__(self, in_channels: int | None, out_channels: int, w_dim: int, fir: Tensor) -> None:
        super().__init__()
        if in_channels is None:
            self.const = nn.Parameter(torch.randn(out_channels, 4, 4))
        else:
            self.conv0 = StyledConv(in_channels, out_channels, w_dim, fir)
        self.conv1 = StyledConv(out_channels, out_channels, w_dim, None)
        self.torgb = ToRGB(out_channels, w_dim)


class StyleGAN2Generator(LayeredGenerator):
    """StyleGAN2 with skip connections in the picture and no progressive growing.

    Args:
        resolution: Side of the picture, a power of two of at least 8.
        channels: {side: width} for every side from 4 to ``resolution``; None takes RTIL's table.
        z_dim: Entries of z.
        w_dim: Entries of w.
        mapping_layers: Depth of the mapping network.

    Attributes:
        w_mean: [w_dim] mean of the mapping network's output, followed by training over about 200 steps.
    """

    arch: ClassVar[str] = "stylegan2"
    latent_space: ClassVar[LatentKind] = "gaussian_wplus"
    w_mean: Tensor
    fir: Tensor

    def __init__(
        self,
        resolution: int,
        channels: Mapping[int, int] | None = None,
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
    ) -> None:
        super().__init__()
        self.resolution, self.z_dim, self.w_dim = resolution, z_dim, w_dim
        self.channels = check_channels(channels or RTIL_CHANNELS, resolution)
        self.num_blocks = len(self.channels)
        self.num_ws = 2 * self.num_blocks
        self.register_buffer("fir", fir_filter(), persistent=False)
        self.register_buffer("w_mean", torch.zeros(w_dim))
        dims = [z_dim] + [w_dim] * mapping_layers
        self.mapping_layers = nn.Sequential(*[EqualLinear(i, o, lr_mul=0.01, act="lrelu") for i, o in pairwise(dims)])
        widths = list(self.channels.values())
        self.blocks = nn.ModuleList(
            Block(i, o, w_dim, self.fir) for i, o in zip([None, *widths[:-1]], widths, strict=True)
        )

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain JSON values."""
        return {
            "resolution": self.resolution,
            "channels": {str(side): width for side, width in self.channels.items()},
            "z_dim": self.z_dim,
            "w_dim": self.w_dim,
            "mapping_layers": len(self.mapping_layers),
        }

    def mapping(self, z: Tensor) -> Tensor:
        """Map z [N, z_dim] to ws [N, L, w_dim], one w in all slots."""
        return self.map_to_w(z)[:, None].repeat(1, self.num_ws, 1)

    def map_to_w(self, z: Tensor) -> Tensor:
        """Map z [N, z_dim], normalised to unit mean square, to w [N, w_dim]."""
        return self.mapping_layers(z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt())

    def truncate(self, ws: Tensor, psi: float) -> Tensor:
        """Pull ws [N, L, w_dim] towards ``w_mean``: psi 1 changes nothing, 0 gives the mean picture."""
        return self.w_mean + (ws - self.w_mean) * psi

    def noise_shapes(self) -> list[tuple[int, int, int]]:
        """Return (1, H, W) per noise map: one at 4x4, two at every further side."""
        sides = [side for side in self.channels for _ in range(2)][1:]
        return [(1, side, side) for side in sides]

    def noise_of_block(self, block: int) -> range:
        """Return the indices of the noise maps of a block."""
        return range(max(2 * block - 1, 0), 2 * block + 1)

    def first_row_behind(self, cut: int) -> int:
        """Return the slot of the ToRGB before the cut: its output is added behind the cut."""
        return max(2 * cut - 1, 0)

    def run_block(self, index: int, state: State | None, ws: Tensor, noise: Sequence[Noise], z1: Noise | None) -> State:
        """Run one block; see :meth:`LayeredGenerator.run_block`."""
        block, rgb = self._block(index), None
        if state is None:
            x = block.const[None].expand(ws.shape[0], -1, -1, -1).to(memory_format=torch.channels_last)
            x = self.in_compute_type(x)
        else:
            rgb = self._add_rgb(state, ws, index - 1)
            x = block.conv0(self.in_compute_type(state.feature), ws[:, 2 * index - 1], noise[2 * index - 1])
        return State(block.conv1(x, ws[:, 2 * index], noise[2 * index], z1), rgb)

    def finish(self, state: State, ws: Tensor) -> Tensor:
        """Add the last ToRGB: the raw picture [N, 3, H, W]."""
        return self._add_rgb(state, ws, self.num_blocks - 1)

    def _add_rgb(self, state: State, ws: Tensor, block: int) -> Tensor:
        rgb = self._block(block).torgb(self.in_compute_type(state.feature), ws[:, 2 * block + 1])
        return rgb if state.rgb is None else rgb + upsample2d(state.rgb, self.fir)

    def _block(self, index: int) -> Block:
        return cast(Block, self.blocks[index])
