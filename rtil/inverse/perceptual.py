"""Perceptual distances between a rendered measurement and the observed one, as a term beside the measurement error.

    ``vgg``    mean absolute difference of VGG16's relu3_3 features of ImageNet-normalised pictures, times 0.001: the
               term of mGANprior (Gu et al. 2020, equation 5, and its code).
    ``lpips``  LPIPS v0.1 (Zhang et al. 2018) with the VGG16 backbone. It is what ILO's code minimises, and it is not
               the metric that evaluations report by default (AlexNet's), which must not be what was optimised.

Both compare *measurements*, so they apply where these are pictures: inpainting, super-resolution, denoising,
colorization (whose luma stands in all three channels) and inversion, but not compressed sensing.
"""

import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtil.errors import UserError, unknown
from rtil.ranges import to_signed
from rtil.weights import load_lpips
from rtil.weights.backbones import find_backbone

PerceptualName = Literal["vgg", "lpips"]

VGG_SCALE = 0.001
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RELU3_3 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256)
"""Layers of VGG16 up to relu3_3: convolutions by their channels, each followed by a ReLU, and poolings."""
LEAST_PIXELS = {"vgg": 4, "lpips": 16}
"""Shorter side at which the last feature map still has a pixel."""
MOST_PIXELS = 256
NORM_EPSILON = 1e-10


class Perceptual(nn.Module):
    """A perceptual distance with frozen weights.

    Args:
        name: ``vgg`` or ``lpips``.
        compute_dtype: Type of the backbone's layers; differences are float32.

    The features of a reference are kept until another tensor comes, or the same one changed.

    Raises:
        UserError: An unknown name, or the backbone's weights are not on this machine.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: PerceptualName, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if name not in get_args(PerceptualName):
            raise unknown("perceptual term", name, get_args(PerceptualName))
        self.name: PerceptualName = name
        self.compute_dtype = compute_dtype
        network: Any = _vgg_to_relu3_3() if name == "vgg" else load_lpips("vgg")
        if network is None:
            raise UserError(
                f"perceptual term '{name}' needs the weights of VGG16, which are not on this machine: "
                "get them by rtil weights lpips"
            )
        self.network: Any = network.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self._kept: tuple[weakref.ref[Tensor], int, list[Tensor]] | None = None

    def distance(self, x: Tensor, reference: Tensor) -> Tensor:
        """Return the distance of each picture from its reference, [N], differentiable.

        Pictures are compared at their own size; those with a side above 256 pixels are shrunk to it (antialiased).

        Args:
            x: [N, 3, H, W] in [0, 1], not clamped, or [N, 1, H, W].
            reference: Of the same shape. One that requires no gradient is run through the network once.

        Raises:
            UserError: The shapes differ or are no pictures', or a side is too small for the network.
        """
        if x.shape != reference.shape or not is_picture(x.shape[1:]):
            raise UserError(
                f"a perceptual distance compares pictures of one shape [N, 3 or 1, H, W]: got {list(x.shape)} and "
                f"{list(reference.shape)}"
            )
        check_size(self.name, x.shape[1:])
        wanted = self._features(reference) if reference.requires_grad else self._kept_features(reference)
        if self.name == "vgg":
            (ours,), (theirs,) = self._features(x), wanted
            return VGG_SCALE * (ours - theirs).abs().flatten(1).mean(1)
        total = torch.zeros(len(x), device=x.device)
        for ours, theirs, head in zip(self._features(x), wanted, self.network.lins, strict=True):
            squares = (_normalised(ours) - _normalised(theirs)).square()
            total = total + F.conv2d(squares, head.model[-1].weight).mean((1, 2, 3))
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        x = _at_most_256(x.float().expand(-1, 3, -1, -1)).contiguous(memory_format=torch.channels_last)
        low = self.compute_dtype != torch.float32
        with torch.autocast(x.device.type, self.compute_dtype if low else torch.bfloat16, enabled=low):
            if self.name == "vgg":
                features = [self.network((x - self.mean) / self.std)]
            else:
                features = list(self.network.net(self.network.scaling_layer(to_signed(x))))
        return [feature.float() for feature in features]

    @torch.no_grad()
    def _kept_features(self, reference: Tensor) -> list[Tensor]:
        if self._kept is not None and self._kept[0]() is reference and self._kept[1] == reference._version:
            return self._kept[2]
        features = self._features(reference)
        self._kept = (weakref.ref(reference), reference._version, features)
        return features


@lru_cache
def open_perceptual(name: PerceptualName, dtype: torch.dtype, device: torch.device) -> Perceptual:
    """Return a distance on a device, the same one each time.

    Raises:
        UserError: See :class:`Perceptual`.
    """
    return Perceptual(name, dtype).to(device)


def check_size(name: PerceptualName, shape: Sequence[int]) -> None:
    """Tell the user when pictures of shape [C, H, W] are too small for a perceptual term.

    Raises:
        UserError: The shorter side is below 4 (vgg) or 16 (lpips) pixels.
    """
    least, H, W = LEAST_PIXELS[name], *shape[1:]
    if min(H, W) < least:
        others = [name for name in get_args(PerceptualName) if LEAST_PIXELS[name] <= min(H, W)]
        raise UserError(
            f"perceptual term '{name}' needs pictures of at least {least} pixels a side, but the measurements "
            f"are {H}x{W}: use {' or '.join([*others, 'none'])}"
        )


def is_picture(shape: Sequence[int]) -> bool:
    """Return whether one image's measurement of this shape is a picture: [3, H, W], or luma [1, H, W].

    Example:
        >>> is_picture((3, 8, 8)), is_picture((1, 32, 32)), is_picture((307,))
        (True, True, False)
    """
    return len(shape) == 3 and shape[0] in (1, 3)


def _vgg_to_relu3_3() -> nn.Sequential | None:
    """Return VGG16's ``features[:16]`` under torchvision's names, or None without weights."""
    backbone = find_backbone("vgg")
    if backbone is None:
        return None
    layers: list[nn.Module] = []
    channels = 3
    with torch.device("meta"):
        for width in RELU3_3:
            if isinstance(width, int):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        network = nn.Sequential(*layers)
    weights = {name: backbone[f"features.{name}"] for name in network.state_dict()}
    network.load_state_dict(weights, strict=True, assign=True)
    return network


def _normalised(feature: Tensor) -> Tensor:
    """Scale each pixel's features to length 1; unlike the ``lpips`` package, with a finite gradient at zero."""
    norm = (feature.square().sum(1, keepdim=True) + NORM_EPSILON**2).sqrt()
    return feature / (norm + NORM_EPSILON)


def _at_most_256(x: Tensor) -> Tensor:
    longer = max(x.shape[-2:])
    if longer <= MOST_PIXELS:
        return x
    size = [max(1, round(side * MOST_PIXELS / longer)) for side in x.shape[-2:]]
    return F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
