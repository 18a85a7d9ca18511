"""Inpainting: some pixels are observed, the others are 0 in y. The mask is shared by the channels."""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rtil.errors import Notice, UserError, in_short
from rtil.inverse.operators.base import LinearOperator, check_img_size, check_rate
from rtil.inverse.operators.noise import GaussianNoise
from rtil.reading import read_file
from rtil.seeds import generator

WHITE_FROM = 128
"""Grey level, of 255, from which a pixel of a mask file counts as white, and alpha from which it counts as opaque."""
WHITE = 255
MASK_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
MASK_MODES = ("1", "L", "P", "RGB", "LA", "PA", "RGBA")
HOLE_MARGIN = 16
"""A drawn hole stays the side of the picture over this away from the border: 16 of 256 pixels."""


class Inpainting(LinearOperator):
    """y = mask * x, [N, C, H, W].

    Args:
        img_size: (C, H, W).
        mask: bool [H, W], True where observed.
        noise_model: Measurement noise; only observed pixels get it.
        name: What is measured, for reports; by default the observed fraction.

    Raises:
        UserError: The mask has another size or type, or observes nothing.
    """

    mask: Tensor

    def __init__(
        self,
        img_size: Sequence[int],
        mask: Tensor,
        noise_model: GaussianNoise | None = None,
        name: str | None = None,
    ) -> None:
        C, H, W = check_img_size(img_size)
        if mask.shape != (H, W) or mask.dtype != torch.bool:
            raise UserError(f"mask is {mask.dtype} {list(mask.shape)} but must be torch.bool [{H}, {W}]")
        if not mask.any():
            raise UserError("mask observes no pixel: at least one must be True (white)")
        super().__init__(img_size, (C, H, W), name or f"inpaint {_percent(mask.double().mean().item())}", noise_model)
        self.register_buffer("mask", mask.clone())

    @property
    def observed(self) -> Tensor:
        """The mask, repeated over the channels: bool [C, H, W]."""
        return self.mask.expand(self.measurement_shape)

    @property
    def error_normaliser(self) -> float:
        """Number of observed entries, channels counted."""
        return float(self.observed.sum())

    def measure(self, x: Tensor) -> Tensor:
        """Return x where observed, 0 elsewhere (whatever x holds there)."""
        return torch.where(self.mask, x, 0)

    def transpose(self, y: Tensor) -> Tensor:
        """Return y where observed, 0 elsewhere."""
        return torch.where(self.mask, y, 0)


def random_inpainting(
    img_size: Sequence[int], rate: float, seed: int = 0, noise_model: GaussianNoise | None = None
) -> Inpainting:
    """Observe a random fraction of the pixels; the pixels of a smaller rate are among those of a larger."""
    _, H, W = check_img_size(img_size)
    return Inpainting(img_size, random_pixels(H, W, rate, seed), noise_model, f"inpaint {_percent(rate)}")


def box_inpainting(img_size: Sequence[int], rate: float, noise_model: GaussianNoise | None = None) -> Inpainting:
    """Observe all but a centred box, which leaves about the fraction ``rate`` of the pixels."""
    _, H, W = check_img_size(img_size)
    return Inpainting(img_size, centre_box(H, W, rate), noise_model, f"box {_percent(rate)}")


def hole_inpainting(
    img_size: Sequence[int], rate: float, seed: int = 0, noise_model: GaussianNoise | None = None
) -> Inpainting:
    """Observe all but a box at a drawn place, which leaves about the fraction ``rate`` of the pixels.

    It stays a sixteenth of the sides away from the border where it can, as in DPS (Chung et al. 2023).
    """
    _, H, W = check_img_size(img_size)
    return Inpainting(img_size, drawn_box(H, W, rate, seed), noise_model, f"hole {_percent(rate)}")


def file_inpainting(img_size: Sequence[int], path: str | Path, noise_model: GaussianNoise | None = None) -> Inpainting:
    """Observe the white pixels of a mask file."""
    _, H, W = check_img_size(img_size)
    return Inpainting(img_size, mask_from_file(path, H, W), noise_model, f"inpaint {Path(path).stem}")


def random_pixels(height: int, width: int, rate: float, seed: int = 0) -> Tensor:
    """Draw a mask [H, W] with exactly max(1, round(rate * H * W)) observed pixels.

    Example:
        >>> int(random_pixels(8, 8, rate=0.25).sum())
        16
    """
    pixels = height * width
    count = max(1, round(check_rate(rate) * pixels))
    mask = torch.zeros(pixels, dtype=torch.bool)
    mask[torch.randperm(pixels, generator=generator(seed, "mask/pixels"))[:count]] = True
    return mask.unflatten(0, (height, width))


def centre_box(height: int, width: int, rate: float) -> Tensor:
    """Return the mask [H, W] of a centred missing box of the picture's proportions, about rate of it observed.

    Example:
        >>> int(centre_box(8, 8, rate=0.75).sum())
        48
    """
    box_height, box_width = _box_size(height, width, rate)
    return explicit_box(height, width, (height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def drawn_box(height: int, width: int, rate: float, seed: int = 0) -> Tensor:
    """Draw the mask [H, W] of a missing box: the size of :func:`centre_box`'s, its place uniform within a margin.

    Example:
        >>> int(drawn_box(16, 16, rate=0.75).sum())
        192
    """
    box_height, box_width = _box_size(height, width, rate)
    draws = torch.rand(2, dtype=torch.float64, generator=generator(seed, "mask/hole")).tolist()

    def place(side: int, size: int, draw: float) -> int:
        margin = min(side // HOLE_MARGIN, (side - size) // 2)
        return margin + int(draw * (side - size - 2 * margin + 1))

    top, left = place(height, box_height, draws[0]), place(width, box_width, draws[1])
    return explicit_box(height, width, top, left, box_height, box_width)


def _box_size(height: int, width: int, rate: float) -> tuple[int, int]:
    side = math.sqrt(1 - check_rate(rate))
    return round(side * height), round(side * width)


def explicit_box(height: int, width: int, top: int, left: int, box_height: int, box_width: int) -> Tensor:
    """Return the mask [H, W] of a missing box, in pixels.

    Raises:
        UserError: The box does not lie inside the picture.
    """
    if min(top, left, box_height, box_width) < 0 or top + box_height > height or left + box_width > width:
        raise UserError(
            f"box of {box_height}x{box_width} pixels at row {top}, column {left} does not lie inside {height}x{width}"
        )
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[top : top + box_height, left : left + box_width] = False
    return mask


def mask_size(path: str | Path) -> tuple[int, int]:
    """Return height and width of a mask file, in pixels.

    Raises:
        UserError: The file cannot be read.
    """
    with _opened(path) as picture:
        return picture.height, picture.width


def mask_from_file(path: str | Path, height: int, width: int) -> Tensor:
    """Read a mask [H, W] from a picture file: white, or grey of at least 128 of 255, is observed; transparent is not.

    Args:
        path: 8-bit or 1-bit greyscale, palette or RGB file. Where it is transparent (alpha below 128 of 255), nothing
            is observed, whatever the colour there.
        height: H of the pictures.
        width: W of the pictures.

    Raises:
        UserError: The file cannot be read, has another size or mode, or observes nothing.
    """
    with _opened(path) as picture:
        # The size is in the header: a wrong or huge one is refused before a pixel is decoded.
        if picture.size != (width, height):
            raise UserError(
                f"mask '{path}' is {picture.height}x{picture.width} pixels but the pictures are {height}x{width}"
            )
        if picture.mode not in MASK_MODES:
            raise UserError(f"mask '{path}' has mode {picture.mode}: save it as 8-bit greyscale")
        grey, alpha = (np.array(band) for band in picture.convert("RGBA").convert("LA").split())
    mask = torch.from_numpy((grey >= WHITE_FROM) & (alpha >= WHITE_FROM))
    if not mask.any():
        raise UserError(
            f"mask '{path}' observes no pixel: white (grey >= {WHITE_FROM}) and opaque is observed, black or "
            "transparent is missing"
        )
    is_between = ((grey > 0) & (grey < WHITE)) | ((alpha > 0) & (alpha < WHITE))
    if is_between.any():
        share = f"{is_between.sum()} of {mask.numel()} pixels"
        _tell(path, f"{share} are grey or half transparent: observed from {WHITE_FROM} of {WHITE} on")
    if mask.all():
        _tell(path, "all pixels are observed: none is missing")
    return mask


def _tell(path: str | Path, what: str) -> None:
    warnings.warn(f"mask '{path}': {what}", Notice, stacklevel=3)


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    content = read_file(path, "mask")
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(content), formats=MASK_FORMATS) as picture,
        ):
            yield picture
    except UserError:
        raise
    except Exception as error:  # decoders raise anything from KeyError to struct.error on damaged content
        no_image = isinstance(error, Image.UnidentifiedImageError)
        reason = "its content is no image" if no_image else in_short(error)
        raise UserError(f"mask '{path}' cannot be read as a picture: {reason}") from error


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"
