"""PGGAN's generator (Karras et al. 2018), as RTIL trains it, cut open between its blocks.

Block 0 is a linear layer from z to a 4x4 map and two 3x3 convolutions (Karras' has one); block b >= 1 doubles the side
and has two more.
Every layer is followed by pixel norm and leaky ReLU, in either order. Each side has a ToRGB; the picture is that of
the last block shown. While a new block fades in, it is (1 - fade) up(ToRGB_prev(x_prev)) + fade ToRGB_new(x_new); then
the state at the last cut carries ToRGB_prev(x_prev), so that whatever was mixed or added at an earlier cut shows in
both. There are no noise maps and no styles: ws is z itself, and nothing of it acts behind a cut.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtil.errors import UserError, unknown
from rtil.generators.base import LatentKind, LayeredGenerator, State
from rtil.generators.growth import Growing
from rtil.generators.layers import EqualConv2d
from rtil.layout import InputBias, NormOrder, Upsampling, check_channels
from rtil.ops import Noise, bias_act, materialise, pixel_norm, upsample_bilinear2d
from rtil.ops.bias_act import LRELU_SLOPE

PGGAN_CHANNELS = {4: 256, 8: 256, 16: 256, 32: 256, 64: 128, 128: 64, 256: 64}
"""RTIL's table 2: 7,449,109 parameters at 256 px (the 7,445,443 printed there count only the last of the ToRGBs)."""

GAIN = math.sqrt(2)
"""He's gain, which the published code puts on every weight, of ToRGB and the last linear layer too."""

UPSAMPLINGS: tuple[Upsampling, ...] = ("bilinear", "nearest")
NORM_ORDERS: tuple[NormOrder, ...] = ("before_act", "after_act")
INPUT_BIASES: tuple[InputBias, ...] = ("channel", "pixel")


class InputLayer(nn.Module):
    """Linear map z [N, z_dim] -> [N, C, 4, 4] with one bias per channel, or per channel and pixel.

    It is the 4x4 transposed convolution of a 1x1 map. Its scale takes 16 C for fan_in, as the published code does;
    that is Karras' gain of sqrt(2)/4 too where C = z_dim.
    """

    def __init__(self, z_dim: int, channels: int, bias: InputBias) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(z_dim, channels, 4, 4))
        self.bias = nn.Parameter(torch.zeros(channels) if bias == "channel" else torch.zeros(channels, 4, 4))
        self.scale = GAIN / math.sqrt(16 * channels)

    def forward(self, z: Tensor) -> Tensor:
        """Map z [N, z_dim] to [N, C, 4, 4]."""
        x = z @ (self.weight * self.scale).flatten(1)
        x = x.unflatten(1, self.weight.shape[1:]).contiguous(memory_format=torch.channels_last)
        return x + self.bias if self.bias.ndim == 3 else bias_act(x, self.bias, "linear")


class Block(nn.Module):
    """The convolutions at one side, two or the second of them alone, and its ToRGB."""

    def __init__(self, in_channels: int, out_channels: int, torgb_gain: float, convolutions: int = 2) -> None:
        super().__init__()
        self.conv0 = EqualConv2d(in_channels, out_channels, 3, act="linear", gain=GAIN) if convolutions == 2 else None
        self.conv1 = EqualConv2d(out_channels, out_channels, 3, act="linear", gain=GAIN)
        self.torgb = EqualConv2d(out_channels, 3, 1, act="linear", gain=torgb_gain)


class PGGANGenerator(Growing, LayeredGenerator):
    """The progressively grown generator; it has all its blocks from the start and shows the first of them.

    Args:
        resolution: Final side of the picture, a power of two of at least 8.
        channels: {side: width} for every side from 4 to ``resolution``; None takes RTIL's table.
        z_dim: Entries of z.
        normalize_latent: Scale z to unit mean square before the first layer (Karras; not RTIL).
        upsampling: ``bilinear`` (RTIL) or ``nearest`` (Karras), of features and of the fading picture.
        norm_order: ``before_act``: pixel norm, then leaky ReLU (RTIL). ``after_act``: the other way round (Karras);
            a cut then lies before the pixel norm that ends its block, so that both ToRGB and the next block
            normalise what crosses it.
        torgb_gain: sqrt(2) (RTIL) or 1 (Karras).
        first_convolutions: 3x3 convolutions at 4x4: 2 (RTIL) or 1 (Karras).
        input_bias: Of the layer behind z: one for each ``channel`` (RTIL, Karras), or for each channel and ``pixel``.
        blocks: Blocks shown, see :meth:`grow`; None shows all.
        fade: How far the last of them has faded in.

    Raises:
        UserError: If a value is not valid.
    """

    arch: ClassVar[str] = "pggan"
    latent_space: ClassVar[LatentKind] = "z"
    num_ws = 1

    def __init__(
        self,
        resolution: int,
        channels: Mapping[int, int] | None = None,
        z_dim: int = 512,
        normalize_latent: bool = False,
        upsampling: Upsampling = "bilinear",
        norm_order: NormOrder = "before_act",
        torgb_gain: float = GAIN,
        first_convolutions: int = 2,
        input_bias: InputBias = "channel",
        blocks: int | None = None,
        fade: float = 1.0,
    ) -> None:
        super().__init__()
        if upsampling not in UPSAMPLINGS:
            raise unknown("upsampling", upsampling, UPSAMPLINGS)
        if norm_order not in NORM_ORDERS:
            raise unknown("norm_order", norm_order, NORM_ORDERS)
        if input_bias not in INPUT_BIASES:
            raise unknown("input_bias", input_bias, INPUT_BIASES)
        if first_convolutions not in (1, 2):
            raise UserError(f"first_convolutions is {first_convolutions}: valid are 1 (Karras) and 2 (RTIL)")
        self.z_dim = z_dim
        self.channels = check_channels(channels or PGGAN_CHANNELS, resolution)
        self.normalize_latent, self.torgb_gain = normalize_latent, torgb_gain
        self.upsampling: Upsampling = upsampling
        self.norm_order: NormOrder = norm_order
        self.first_convolutions = first_convolutions
        self.input_bias: InputBias = input_bias
        widths = list(self.channels.values())
        self.input = InputLayer(z_dim, widths[0], input_bias)
        self.blocks = nn.ModuleList([Block(widths[0], widths[0], torgb_gain, first_convolutions)])
        self.blocks.extend(Block(i, o, torgb_gain) for i, o in pairwise(widths))
        self.grow(blocks, fade)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain JSON values, of the growth reached too."""
        return self.config_with(
            z_dim=self.z_dim,
            normalize_latent=self.normalize_latent,
            upsampling=self.upsampling,
            norm_order=self.norm_order,
            torgb_gain=self.torgb_gain,
            first_convolutions=self.first_convolutions,
            input_bias=self.input_bias,
        )

    def mapping(self, z: Tensor) -> Tensor:
        """Return z [N, z_dim] as ws [N, 1, z_dim]."""
        return z[:, None]

    def first_row_behind(self, cut: int) -> int:
        """Return 0 at the input and 1, which is L, behind every cut."""
        return min(cut, 1)

    def run_block(self, index: int, state: State | None, ws: Tensor, noise: Sequence[Noise], z1: Noise | None) -> State:
        """Run one block; see :meth:`LayeredGenerator.run_block`."""
        block, rgb = self._block(index), None
        if state is None:
            x = self._enter(self._activate(self.in_compute_type(self.input(self._latent(ws)))))
        else:
            x = self._enter(self.in_compute_type(state.feature))
            if self.fade < 1 and index == self.num_blocks - 1:
                rgb = self._to_rgb(x, index - 1)
            x = self._upsample(x)
        if block.conv0 is not None:
            x = self._enter(self._activate(block.conv0(x)))
        x = self._activate(block.conv1(x))
        return State(x if z1 is None else x + materialise(z1, x.shape, x), rgb)

    def finish(self, state: State, ws: Tensor) -> Tensor:
        """Return the raw picture [N, 3, H, W]: the last ToRGB, blended with the one before while fading."""
        rgb = self._to_rgb(self._enter(self.in_compute_type(state.feature)), self.num_blocks - 1)
        return rgb if state.rgb is None else torch.lerp(self._upsample(state.rgb), rgb, self.fade)

    def _latent(self, ws: Tensor) -> Tensor:
        return pixel_norm(ws[:, 0]) if self.normalize_latent else ws[:, 0]

    def _activate(self, x: Tensor) -> Tensor:
        """What follows every layer."""
        return pixel_norm(x, LRELU_SLOPE) if self.norm_order == "before_act" else F.leaky_relu(x, LRELU_SLOPE)

    def _enter(self, x: Tensor) -> Tensor:
        """What precedes every convolution and ToRGB."""
        return x if self.norm_order == "before_act" else pixel_norm(x)

    def _to_rgb(self, x: Tensor, block: int) -> Tensor:
        torgb = self._block(block).torgb
        return torgb(x).to(torgb.weight.dtype)

    def _upsample(self, x: Tensor) -> Tensor:
        if self.upsampling == "nearest":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return upsample_bilinear2d(x)

    def _block(self, index: int) -> Block:
        return cast(Block, self.blocks[index])
