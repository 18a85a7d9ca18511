"""Pictures as tensors: enlarged, laid out, and written as PNG files."""

import math
from pathlib import Path

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from rtil.files import atomic_path
from rtil.ranges import to_uint8

READABLE_PIXELS = 96


def readable(pictures: Tensor) -> Tensor:
    """Enlarge small pictures [..., H, W] by a whole factor, pixel by pixel, to at least 96 pixels."""
    factor = math.ceil(READABLE_PIXELS / min(pictures.shape[-2:]))
    return pictures.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def image_grid(images: Tensor, nrow: int) -> Tensor:
    """Lay pictures [N, C, H, W] out in rows of nrow, without gaps; returns [C, rows * H, nrow * W].

    Missing pictures of the last row are 0.

    Example:
        >>> import torch
        >>> image_grid(torch.ones(5, 3, 8, 8), nrow=3).shape
        torch.Size([3, 16, 24])
    """
    N, C, H, W = images.shape
    rows = math.ceil(N / nrow)
    full = F.pad(images, (0, 0, 0, 0, 0, 0, 0, rows * nrow - N))
    return full.view(rows, nrow, C, H, W).permute(2, 0, 3, 1, 4).reshape(C, rows * H, nrow * W)


def to_pillow(picture: Tensor) -> Image.Image:
    """Return a picture [3, H, W] in [0, 1], clamped, as an 8-bit Pillow image."""
    return Image.fromarray(to_uint8(picture.detach()).permute(1, 2, 0).cpu().numpy())


def save_png(picture: Tensor, path: str | Path) -> None:
    """Write a picture [3, H, W] in [0, 1], clamped, to a PNG file, atomically."""
    with atomic_path(path) as temporary:
        to_pillow(picture).save(temporary, format="PNG")


def save_bytes(picture: Tensor, path: str | Path) -> None:
    """Write bytes [3, H, W], or with alpha [4, H, W], to a PNG file, atomically; alpha where a pixel is not opaque."""
    shown = picture[:3] if len(picture) == 4 and bool((picture[3] == 255).all()) else picture
    with atomic_path(path) as temporary:
        Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy()).save(temporary, format="PNG")
