"""Reading one picture of unknown origin into bytes that a network can trust.

Whatever the file holds (palette, grey, CMYK, 16 bit, transparency, EXIF rotation, several frames), the result is an
RGB uint8 tensor [3, H, W]; what cannot be read exactly is refused with one line that names the file. ICC profiles are
ignored: samples are taken as sRGB.
"""

import io
import threading
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rtil.errors import RunError, UserError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_warning_filters = threading.Lock()  # warnings.catch_warnings changes state that all threads share


def read_image(data: bytes, name: str) -> Tensor:
    """Decode the bytes of an image file to RGB uint8 [3, H, W].

    EXIF orientation is applied, 16-bit samples are scaled by 255 / 65535, transparent pixels are composited on white,
    and the first frame of an animation is taken.

    Args:
        data: Content of the file.
        name: What error messages call the file.

    Raises:
        UserError: The content is no image, truncated, of float or 32-bit samples, or too large to be honest.
    """
    return _read(data, name, keep_transparency=False)


def read_with_transparency(data: bytes, name: str) -> Tensor:
    """Decode as :func:`read_image` does, but to uint8 [4, H, W]: transparency stays, as alpha (255 is opaque)."""
    return _read(data, name, keep_transparency=True)


def _read(data: bytes, name: str, keep_transparency: bool) -> Tensor:
    if not data:
        raise RunError(f"cannot read image {name!r}: the file is empty; remove it or fetch it again")
    try:
        image = _decode(data)
        if keep_transparency:
            return _to_tensor(image.convert("RGBA"))
        return _to_tensor(_on_white(image).convert("RGB"))
    except UserError as error:
        raise RunError(f"cannot read image {name!r}: {error}") from None
    except Image.UnidentifiedImageError:
        raise RunError(f"cannot read image {name!r}: its content is no image; remove it or fetch it again") from None
    except Exception as error:  # decoders raise anything from KeyError to struct.error on damaged content
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(f"cannot read image {name!r}: {reason}; remove it or fetch it again") from error


def _decode(data: bytes) -> Image.Image:
    """Return the first frame, upright, in mode L, RGB or, if it has transparency, RGBA."""
    try:
        with _warning_filters, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS
        raise RunError(f"it has more than {limit} pixels; make it smaller first") from None
    if image.mode == "F" or image.mode == "I":
        kind = "float" if image.mode == "F" else "32-bit integer"
        raise RunError(f"it holds {kind} samples, whose range is unknown; convert it to 8 or 16 bit")
    image = ImageOps.exif_transpose(image)
    if image.mode in SIXTEEN_BIT:
        return Image.fromarray(np.rint(np.asarray(image) * (255 / 65535)).astype(np.uint8))
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image) if image.mode == "RGBA" else image


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(np.asarray(image).transpose(2, 0, 1), order="C"))  # torch takes twice as long


def fit(image: Tensor, resolution: int) -> Tensor:
    """Crop the central square and resize it, antialiased; a picture that already fits is returned unchanged.

    The filter is Pillow's Lanczos on bytes: fixed-point arithmetic, hence the same result on every machine.

    Args:
        image: uint8 [3, H, W], or with alpha [4, H, W]: colours of transparent pixels then do not spread.
        resolution: Side R of the result in pixels.

    Returns:
        uint8 [3, R, R] or [4, R, R].

    Example:
        >>> fit(torch.zeros(3, 20, 31, dtype=torch.uint8), 8).shape
        torch.Size([3, 8, 8])
    """
    height, width = image.shape[1:]
    if height == width == resolution:
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[:, top : top + side, left : left + side].permute(1, 2, 0).contiguous()
    size = (resolution, resolution)
    return _to_tensor(Image.fromarray(square.numpy()).resize(size, Image.Resampling.LANCZOS))
