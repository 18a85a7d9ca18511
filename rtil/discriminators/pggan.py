"""PGGAN's discriminator (Karras et al. 2018), as RTIL trains it: the generator's mirror, grown with it.

One fromRGB per side, two 3x3 convolutions per side, halving by 2x2 means; at 4x4 the minibatch standard deviation as
an extra channel, a 3x3 and a 4x4 convolution and a linear layer. While a new block fades in, what reaches the next
one is (1 - fade) fromRGB_prev(half the picture) + fade block(fromRGB(picture)). All samples of a batch meet in the
minibatch standard deviation, which is one number for the whole batch.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtil.errors import UserError
from rtil.generators.growth import Growing
from rtil.generators.layers import EqualConv2d, EqualLinear
from rtil.generators.pggan import GAIN, PGGAN_CHANNELS
from rtil.generators.recompute import recomputed
from rtil.layout import check_channels
from rtil.ops import pixel_norm
from rtil.ops.bias_act import LRELU_SLOPE


def batch_variance(x: Tensor) -> Tensor:
    """Return the variance [C, H, W] over a batch [N, C, H, W]."""
    return x.var(dim=0, unbiased=False)


def append_batch_std(x: Tensor, variance: Callable[[Tensor], Tensor] = batch_variance) -> Tensor:
    """Append the standard deviation over the batch, averaged over C, H, W, as a channel: [N, C+1, H, W]."""
    N, _, H, W = x.shape
    std = (variance(x) + 1e-8).sqrt().mean()
    return torch.cat([x, std.expand(N, 1, H, W)], dim=1)


def halve(x: Tensor) -> Tensor:
    """Return the means of 2x2 pixels; bilinear interpolation to half the side is the same."""
    return F.avg_pool2d(x, 2)


def _activate(x: Tensor, normalise: bool) -> Tensor:
    return pixel_norm(x, LRELU_SLOPE) if normalise else F.leaky_relu(x, LRELU_SLOPE)


class Block(nn.Module):
    """Two 3x3 convolutions at one side, then half that side."""

    def __init__(self, in_channels: int, out_channels: int, normalise: bool) -> None:
        super().__init__()
        self.conv0 = EqualConv2d(in_channels, out_channels, 3, act="linear", gain=GAIN)
        self.conv1 = EqualConv2d(out_channels, out_channels, 3, act="linear", gain=GAIN)
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, I, H, W] to [N, O, H/2, W/2]."""
        x = _activate(self.conv0(x), self.normalise)
        return halve(_activate(self.conv1(x), self.normalise))


class LastBlock(nn.Module):
    """From 4x4 to the score; ``fc`` is the 4x4 convolution without padding."""

    def __init__(self, channels: int, normalise: bool) -> None:
        super().__init__()
        self.conv = EqualConv2d(channels + 1, channels, 3, act="linear", gain=GAIN)
        self.fc = EqualLinear(channels * 16, channels, gain=GAIN)
        self.out = EqualLinear(channels, 1, gain=GAIN)
        self.normalise = normalise

    def forward(self, x: Tensor, variance: Callable[[Tensor], Tensor] = batch_variance) -> Tensor:
        """Map [N, C, 4, 4] to [N]."""
        x = _activate(self.conv(append_batch_std(x, variance)), self.normalise)
        return self.out(_activate(self.fc(x.flatten(1)), self.normalise)).squeeze(1)


class PGGANDiscriminator(Growing, nn.Module):
    """The progressively grown discriminator; block b works at the side of the generator's block b.

    Args:
        resolution: Final side of the pictures, a power of two of at least 8.
        channels: {side: width}; None takes RTIL's table (6,367,617 parameters at 256 px).
        pixel_norm: Pixel norm before every leaky ReLU (RTIL), or none (Karras).
        blocks: Blocks shown, see :meth:`grow`; None shows all.
        fade: How far the last of them has faded in.

    Attributes:
        compute_dtype: Type of the blocks above 4x4 (None: the parameters' own); the 4x4 part always runs in the
            parameters' own type, as its statistics and scores need the precision.
        activation_checkpointing: Keep the input only of each block above 4x4 for a backward pass.
        batch_variance: Variance [C, H, W] over the batch of which [N, C, H, W] is compared; another one than that of
            the pictures given where several processes share a batch.

    Raises:
        UserError: If a value is not valid.
    """

    compute_dtype: torch.dtype | None = None
    activation_checkpointing: bool = False
    batch_variance: Callable[[Tensor], Tensor] = staticmethod(batch_variance)

    def __init__(
        self,
        resolution: int,
        channels: Mapping[int, int] | None = None,
        pixel_norm: bool = True,
        blocks: int | None = None,
        fade: float = 1.0,
    ) -> None:
        super().__init__()
        self.pixel_norm = pixel_norm
        self.channels = check_channels(channels or PGGAN_CHANNELS, resolution)
        widths = list(self.channels.values())
        self.fromrgb = nn.ModuleList(EqualConv2d(3, width, 1, act="linear", gain=GAIN) for width in widths)
        self.blocks = nn.ModuleList([LastBlock(widths[0], pixel_norm)])
        self.blocks.extend(Block(i, o, pixel_norm) for i, o in zip(widths[1:], widths[:-1], strict=True))
        self.grow(blocks, fade)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain JSON values, of the growth reached too."""
        return self.config_with(pixel_norm=self.pixel_norm)

    def forward(self, images: Tensor) -> Tensor:
        """Score images [N, 3, R, R] in [-1, 1], R the side now shown: [N], high for real.

        Raises:
            UserError: If the images are of another side.
        """
        if images.shape[2:] != (self.resolution, self.resolution):
            H, W = images.shape[2:]
            raise UserError(f"pictures of {H}x{W} pixels: {self.num_blocks} blocks take {self.resolution} px")
        last = self.num_blocks - 1
        x = self._from_rgb(images, last)
        for b in range(last, 0, -1):
            x = recomputed(self.blocks[b], x) if self.activation_checkpointing else self.blocks[b](x)
            if b == last and self.fade < 1:
                before = self._from_rgb(halve(images), b - 1)
                x = torch.lerp(before, x.to(before.dtype), self.fade)
        return self.blocks[0](x.to(self._type_of_block(0)), self.batch_variance)

    def _from_rgb(self, images: Tensor, block: int) -> Tensor:
        x = images.to(self._type_of_block(block), memory_format=torch.channels_last)
        return self.fromrgb[block](x)

    def _type_of_block(self, block: int) -> torch.dtype:
        own = cast(EqualConv2d, self.fromrgb[0]).weight.dtype
        return own if block == 0 else self.compute_dtype or own
