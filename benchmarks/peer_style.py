"""StyleGAN2 as the published codes compute it, on the weights of this project's networks: a reference for speed.

It is written from the descriptions of those codes (rosinality's StyleGAN2, which the published ILO and RTIL codes use):

    float32, maps in NCHW order
    modulated convolution  a set of weights per sample, [N O, I, k, k], in one convolution of N groups
    FIR                    zeros inserted, padded, one filter over all maps
    noise, bias, leaky ReLU and its gain each as a pass over the map
    discriminator's skip   filtered at full size, then a 1x1 convolution of stride 2

The pictures and scores are the same, up to rounding. Of :mod:`rtil.ops` only the random numbers are
used. On a GPU the published codes had kernels of their own for FIR and activation, so there this is their fallback, not
their best.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.discriminators.stylegan2 import ResidualBlock, StyleGAN2Discriminator, append_group_std
from rtil.generators.base import State
from rtil.generators.layers import EqualConv2d, EqualLinear
from rtil.generators.stylegan2 import StyledConv, StyleGAN2Generator, ToRGB
from rtil.ops import Noise, materialise

TAPS = (1, 3, 3, 1)
SLOPE = 0.2
EPSILON = 1e-8


class PeerGenerator(StyleGAN2Generator):
    """A generator with the weights and the contract of ours and the published codes' arithmetic.

    ``compute_dtype`` has no effect: everything is float32.
    """

    @classmethod
    def of(cls, generator: StyleGAN2Generator) -> "PeerGenerator":
        """Return one with copies of a generator's weights, on its device."""
        peer = cls(**generator.config).to(generator.device)
        peer.load_state_dict(generator.state_dict())
        return peer

    def map_to_w(self, z: Tensor) -> Tensor:
        """Map z [N, z_dim] to w [N, w_dim]."""
        w = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + EPSILON)
        for layer in self.mapping_layers:
            w = linear(cast(EqualLinear, layer), w)
        return w

    def run_block(self, index: int, state: State | None, ws: Tensor, noise: Sequence[Noise], z1: Noise | None) -> State:
        """Run one block; see :meth:`rtil.generators.base.LayeredGenerator.run_block`."""
        block = self._block(index)
        rgb: Tensor | None = None
        if state is None:
            x = block.const[None].repeat(len(ws), 1, 1, 1)
        else:
            rgb = self.with_rgb(state, ws, index - 1)
            x = styled_conv(block.conv0, state.feature, ws[:, 2 * index - 1], noise[2 * index - 1])
        x = styled_conv(block.conv1, x, ws[:, 2 * index], noise[2 * index])
        return State(x if z1 is None else x + materialise(z1, x.shape, x), rgb)

    def finish(self, state: State, ws: Tensor) -> Tensor:
        """Add the last ToRGB: the raw picture [N, 3, H, W]."""
        return self.with_rgb(state, ws, self.num_blocks - 1)

    def with_rgb(self, state: State, ws: Tensor, block: int) -> Tensor:
        """Add a block's ToRGB to the upsampled picture so far."""
        rgb = to_rgb(self._block(block).torgb, state.feature, ws[:, 2 * block + 1])
        return rgb if state.rgb is None else rgb + fir(state.rgb, gain=4, up=2, pad=(2, 1))


class PeerDiscriminator(StyleGAN2Discriminator):
    """A discriminator with the weights of ours and the published codes' arithmetic; always float32."""

    @classmethod
    def of(cls, discriminator: StyleGAN2Discriminator) -> "PeerDiscriminator":
        """Return one with copies of a discriminator's weights, on its device."""
        peer = cls(**discriminator.config).to(discriminator.out.weight.device)
        peer.load_state_dict(discriminator.state_dict())
        return peer

    def forward(self, images: Tensor) -> Tensor:
        """Score images [N, 3, R, R] in [-1, 1]: [N]."""
        x = convolution(self.fromrgb, images)
        for block in cast(list[ResidualBlock], list(self.blocks)):
            y = convolution(block.conv1, convolution(block.conv0, x))
            x = (y + convolution(block.skip, x)) / math.sqrt(2)
        x = convolution(self.conv, append_group_std(x))
        return linear(self.out, linear(self.fc, x.flatten(1))).squeeze(1)


def linear(layer: EqualLinear, x: Tensor) -> Tensor:
    """Run a fully connected layer on x [N, I]."""
    w, b = layer.weight * layer.scale, layer.bias * layer.lr_mul
    return activate(F.linear(x, w), b) if layer.act == "lrelu" else F.linear(x, w, b)


def activate(x: Tensor, bias: Tensor) -> Tensor:
    """Bias over dimension 1, leaky ReLU, gain sqrt(2)."""
    x = x + bias.view(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


@cache
def kernel(gain: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the filter [4, 4], its sum the gain."""
    taps = torch.tensor(TAPS, device=device, dtype=dtype)
    return torch.outer(taps, taps) * (gain / taps.sum().square())


def fir(x: Tensor, gain: float = 1, up: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Insert zeros behind each sample, pad both axes alike, and filter.

    Args:
        x: [N, C, H, W].
        gain: Factor on the filter.
        up: Factor of the sides before the filter.
        pad: Before and behind each axis.
    """
    N, C, H, W = x.shape
    x = F.pad(x.reshape(N * C, 1, H, 1, W, 1), [0, up - 1, 0, 0, 0, up - 1]).view(N * C, 1, H * up, W * up)
    x = F.conv2d(F.pad(x, [*pad, *pad]), kernel(gain, x.device, x.dtype)[None, None])
    return x.view(N, C, *x.shape[2:])


def modulated(x: Tensor, w: Tensor, s: Tensor, up: bool = False, demodulate: bool = True) -> Tensor:
    """Convolve x [N, I, H, W] with weights w [O, I, k, k] modulated per sample by styles s [N, I].

    With ``up`` it is a transposed convolution of stride 2, without padding.
    """
    (N, I, H, W), (O, _, k, _) = x.shape, w.shape  # noqa: E741
    w = w[None] * s[:, None, :, None, None]  # [N O I k k]
    if demodulate:
        w = w * torch.rsqrt(w.square().sum([2, 3, 4], keepdim=True) + EPSILON)
    x = x.reshape(1, N * I, H, W)
    if up:
        y = F.conv_transpose2d(x, w.transpose(1, 2).reshape(N * I, O, k, k), stride=2, groups=N)
    else:
        y = F.conv2d(x, w.view(N * O, I, k, k), padding=k // 2, groups=N)
    return y.view(N, O, *y.shape[2:])


def styled_conv(layer: StyledConv, x: Tensor, w: Tensor, noise: Noise) -> Tensor:
    """Modulated convolution, FIR if it doubles the side, noise, bias, leaky ReLU."""
    up = layer.fir is not None
    y = modulated(x, layer.weight * layer.scale, linear(layer.affine, w), up)
    if up:
        y = fir(y, gain=4, pad=(1, 1))
    noise = materialise(noise, (len(y), 1, *y.shape[2:]), y)
    return activate(y + layer.noise_strength * noise, layer.bias)


def to_rgb(layer: ToRGB, x: Tensor, w: Tensor) -> Tensor:
    """Modulated 1x1 convolution to 3 channels."""
    y = modulated(x, layer.weight * layer.scale, linear(layer.affine, w), demodulate=False)
    return y + layer.bias.view(1, 3, 1, 1)


def convolution(layer: EqualConv2d, x: Tensor) -> Tensor:
    """Run a layer of the discriminator on x [N, I, H, W]; halving, it filters at full size first."""
    w = layer.weight * layer.scale
    if layer.fir is not None:
        pad = len(TAPS) - 2 + layer.kernel - 1
        y = F.conv2d(fir(x, pad=((pad + 1) // 2, pad // 2)), w, stride=2)
    else:
        y = F.conv2d(x, w, padding=layer.kernel // 2)
    if layer.bias is None:
        return y
    return activate(y, layer.bias) if layer.act == "lrelu" else y + layer.bias.view(1, -1, 1, 1)
