"""Reading one picture of unknown origin into bytes that a network can trust.

Whatever the file holds (palette, grey, CMYK, 16 bit, transparency, EXIF rotation, several frames), the result is an
RGB uint8 tensor [3, H, W]; what cannot be read exactly is refused with one line that names the file. ICC profiles are
ignored: samples are taken as sRGB.
"""

import io
import math
import threading
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rtil.budget import SHARE, Share, available_bytes, check_memory, in_gb
from rtil.data.picture_notes import CMYK, ENLARGED, FRAMES, SQUARED, PictureNotes
from rtil.errors import RunError, UserError, in_short

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
"""What is looked for in a file, whatever its name: Pillow reads others with programs that it starts."""
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
MOST_PIXELS = 2**30 // 12
"""89 million, as Pillow has it."""
SMALL_PIXELS, MOST_PIXELS_PER_BYTE = 2**22, 1000
"""A file of more than so many pixels has no more than a thousand in a byte; one colour as PNG has 340 at most."""
BYTES_PER_PIXEL = 18
"""Memory that decoding takes at its peak: measured 17 for WebP, 10 to 12 for the others."""
BYTES_PER_FITTED_PIXEL = 16
"""Memory that fitting and encoding take at their peak, by pixels of the result."""
_decoding = Share(2**31)
_warning_filters = threading.Lock()  # warnings.catch_warnings changes state that all threads share


def read_image(data: bytes, name: str, notes: PictureNotes | None = None) -> Tensor:
    """Decode the bytes of an image file to RGB uint8 [3, H, W].

    EXIF orientation is applied, 16-bit samples are scaled by 255 / 65535, transparent pixels are composited on white,
    and the first frame of an animation is taken.

    Args:
        data: Content of the file.
        name: What error messages call the file.
        notes: Is told what was not taken as it is.

    Raises:
        UserError: The content is no image, truncated, of float or 32-bit samples, or too large to be honest or for the
            memory there is.
    """
    return _read(data, name, notes, keep_transparency=False)


def read_with_transparency(data: bytes, name: str, notes: PictureNotes | None = None) -> Tensor:
    """Decode as :func:`read_image` does, but to uint8 [4, H, W]: transparency stays, as alpha (255 is opaque)."""
    return _read(data, name, notes, keep_transparency=True)


def _read(data: bytes, name: str, notes: PictureNotes | None, keep_transparency: bool) -> Tensor:
    if not data:
        raise RunError(f"cannot read image {name!r}: the file is empty; remove it or fetch it again")
    try:
        image = _opened(data)
        with _decoding.taking(BYTES_PER_PIXEL * image.width * image.height):
            if notes is not None:
                _note(image, name, notes)
            image = _decoded(image)  # each one lets go of the one before
            image = _converted(image, keep_transparency)
            return _to_tensor(image)
    except UserError as error:
        raise RunError(f"cannot read image {name!r}: {error}") from None
    except MemoryError:
        size = f"{image.width}x{image.height} pixels"
        raise RunError(f"cannot read image {name!r}: memory is too full for its {size}; free some") from None
    except Image.UnidentifiedImageError:
        raise RunError(f"cannot read image {name!r}: its content is no image; remove it or fetch it again") from None
    except Exception as error:  # decoders raise anything from KeyError to struct.error on damaged content
        raise RunError(f"cannot read image {name!r}: {in_short(error)}; remove it or fetch it again") from error


def _opened(data: bytes) -> Image.Image:
    """Return a picture of which only the header is read, and which is worth being decoded."""
    try:
        with _warning_filters, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_many() from None
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise _too_many()
    if pixels > SMALL_PIXELS:
        if pixels > MOST_PIXELS_PER_BYTE * len(data):
            raise UserError(
                f"it claims {image.width}x{image.height} pixels in {len(data):,} bytes, more than "
                f"{MOST_PIXELS_PER_BYTE} in a byte: no picture is so flat; make it smaller first"
            )
        check_memory(BYTES_PER_PIXEL * pixels, f"its {image.width}x{image.height} pixels", "make it smaller first")
    if image.mode == "F" or image.mode == "I":
        kind = "float" if image.mode == "F" else "32-bit integer"
        raise UserError(f"it holds {kind} samples, whose range is unknown; convert it to 8 or 16 bit")
    return image


def _too_many() -> UserError:
    return UserError(f"it has more than {MOST_PIXELS} pixels; make it smaller first")


def _note(image: Image.Image, name: str, notes: PictureNotes) -> None:
    if image.mode == "CMYK":
        notes.add(CMYK, name)
    if getattr(image, "is_animated", False) and image.format != "MPO":  # of which cameras hide a preview behind
        notes.add(FRAMES, name)


def _decoded(image: Image.Image) -> Image.Image:
    """Return the first frame, upright, in mode L, RGB or, if it has transparency, RGBA."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in SIXTEEN_BIT:
        return Image.fromarray(TO_EIGHT_BIT[np.asarray(image)])
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


TO_EIGHT_BIT = np.rint(np.arange(2**16) * (255 / 65535)).astype(np.uint8)


def _converted(image: Image.Image, keep_transparency: bool) -> Image.Image:
    """Return it in mode RGBA, or in mode RGB on white."""
    if keep_transparency:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


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


def note_fit(notes: PictureNotes, name: str, image: Tensor, resolution: int) -> None:
    """Note what :func:`fit` does to a picture [C, H, W] that is not meant by it: cut off, or enlarge."""
    height, width = image.shape[1:]
    if height != width:
        notes.add(SQUARED, name)
    if min(height, width) < resolution:
        notes.add(ENLARGED, name)


def check_side(resolution: int) -> None:
    """Tell the user, before any work, when pictures of a side in pixels cannot be made or read.

    Raises:
        RunError: It is not positive, or more than a file may have or than fit into memory.
    """
    if resolution < 1:
        raise RunError(f"resolution {resolution} is not valid: give a positive number of pixels")
    available = available_bytes() or 2**62
    most = math.isqrt(min(MOST_PIXELS, int(SHARE * available) // BYTES_PER_FITTED_PIXEL))
    if resolution > most:
        needed = in_gb(BYTES_PER_FITTED_PIXEL * resolution**2)
        raise RunError(
            f"resolution {resolution} is not valid: one picture takes {needed} of memory; at most {most} fits"
        )
