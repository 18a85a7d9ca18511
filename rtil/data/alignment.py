"""Faces cropped as data sets have them, and results put back where they came from: geometry alone.

A prior knows faces at one place, of one size and upright. FFHQ (Karras et al. 2019, appendix A) crops by the rule of
CelebA-HQ (Karras et al. 2018, appendix C): a square that is upright to the face, from the eyes and the corners of the
mouth. CelebA's own aligned pictures are wider: eyes and mouth are moved to fixed places of 178x218
pixels, of which training takes the central square.

Points of a picture are complex numbers x + iy in pixels, x to the right and y downwards from the top left corner, so
that the first pixel has its middle at 0.5 + 0.5i and multiplying by i turns right into down.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Framing = Literal["ffhq", "celeba"]
FEATHER = 0.08
"""Width of the soft edge of what is put back, as a share of the square's side."""
LANCZOS_REACH = 3
CELEBA_SIDE, CELEBA_CROPPED_ROWS = 178, 20
CELEBA_EYES_AND_MOUTH = np.array([70.745 + 112j, 108.237 + 112j, 89.432 + 153.514j]) - (0.5 + 0.5j)
"""Of the 178x218 pixels, by CelebA's authors, who count from the middle of pixel 1; of the mouth the middle."""


class Landmarks(NamedTuple):
    """Points of a face, left and right as the picture shows them."""

    left_eye: complex
    right_eye: complex
    left_mouth: complex
    right_mouth: complex


class Square(NamedTuple):
    """A turned square in a picture.

    Attributes:
        middle: Its middle.
        half: From there to the middle of its right side; its lower side is at ``half * 1j``.
    """

    middle: complex
    half: complex

    @property
    def side(self) -> float:
        """Its side in pixels."""
        return 2 * abs(self.half)

    @property
    def top_left(self) -> complex:
        """Its top left corner."""
        return self.middle - self.half * (1 + 1j)

    def bounds(self) -> tuple[int, int, int, int]:
        """Return the pixels that it touches: left, top, right and bottom, the last two exclusive."""
        reach = abs(self.half.real) + abs(self.half.imag)
        low, high = self.middle - reach * (1 + 1j), self.middle + reach * (1 + 1j)
        return math.floor(low.real), math.floor(low.imag), math.ceil(high.real), math.ceil(high.imag)


def face_square(framing: Framing, face: Landmarks) -> Square:
    """Return the square that a data set would crop.

    Args:
        framing: ffhq, which CelebA-HQ follows, too; or celeba.
        face: Of the eyes the middle, of the mouth the outer corners.

    Example:
        >>> face_square("ffhq", Landmarks(40 + 50j, 60 + 50j, 42 + 70j, 58 + 70j))
        Square(middle=(50+52j), half=(40+0j))
    """
    eyes, mouth = (face.left_eye + face.right_eye) / 2, (face.left_mouth + face.right_mouth) / 2
    if framing == "celeba":
        return _celeba(np.array([face.left_eye, face.right_eye, mouth]))
    across, down = face.right_eye - face.left_eye, mouth - eyes
    upright = across - 1j * down
    half = upright / abs(upright) * max(2.0 * abs(across), 1.8 * abs(down))
    return Square(eyes + 0.1 * down, half)


def _celeba(points: NDArray[np.complex128]) -> Square:
    """Return the square from the similarity that takes CelebA's places to the points, by least squares."""
    places = CELEBA_EYES_AND_MOUTH - 1j * CELEBA_CROPPED_ROWS
    centred = places - places.mean()
    scale = complex(np.vdot(centred, points - points.mean()) / np.vdot(centred, centred).real)
    half = scale * CELEBA_SIDE / 2
    return Square(complex(points.mean() - scale * places.mean()) + half * (1 + 1j), half)


def crop(picture: Tensor, square: Square, resolution: int, outside_is_missing: bool = False) -> Tensor:
    """Cut a turned square out and resize it, antialiased; beyond its borders the picture is mirrored.

    An upright square of R pixels is cut out exactly; a larger one is shrunk by Lanczos, as :func:`rtil.data.images.fit`
    does, a smaller one enlarged by cubic interpolation.

    Args:
        picture: uint8 [3, H, W], or with alpha [4, H, W]: colours of transparent pixels then do not spread.
        square: In it, or partly beyond it.
        resolution: Side R of the result in pixels.
        outside_is_missing: What lies beyond the picture is transparent; it must have alpha.

    Returns:
        uint8 [3, R, R] or [4, R, R].
    """
    fine = resolution if square.side <= resolution else 2 * resolution
    shrink = min(1.0, fine / square.side)
    reach = 2 + math.ceil(LANCZOS_REACH / shrink)
    left, top, right, bottom = square.bounds()
    left, top = left - reach, top - reach
    rows, columns = np.arange(top, bottom + reach), np.arange(left, right + reach)
    C, H, W = picture.shape
    cut = picture.numpy()[:, _mirrored(rows, H)[:, None], _mirrored(columns, W)]
    if outside_is_missing:
        is_inside = np.outer((rows >= 0) & (rows < H), (columns >= 0) & (columns < W))
        cut[C - 1] *= is_inside
    image = _to_image(cut)
    if shrink < 1:
        width, height = (max(1, round(shrink * size)) for size in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    scale_x, scale_y = image.width / len(columns), image.height / len(rows)
    image = _transform(image, fine, fine, 2 * square.half / fine, square.top_left - (left + 1j * top), scale_x, scale_y)
    return _to_tensor(image.resize((resolution, resolution), Image.Resampling.LANCZOS))


def put_back(photo: Tensor, square: Square, result: Tensor, feather: float = FEATHER) -> Tensor:
    """Put a square picture into the photograph that it was cropped from, with a soft edge.

    Pixels outside the square stay as they are, bit by bit; transparent pixels inside it are filled.

    Args:
        photo: uint8 [3, H, W], or with alpha [4, H, W].
        square: Where the picture was cropped.
        result: The picture, uint8 [3, R, R].
        feather: Width of the edge, as a share of the square's side, over which it fades in.

    Returns:
        uint8 of the photograph's shape.
    """
    left, top, right, bottom = square.bounds()
    H, W = photo.shape[1:]
    left, top, right, bottom = max(0, left), max(0, top), min(W, right), min(H, bottom)
    out = photo.clone()
    if right <= left or bottom <= top:
        return out
    image = _to_image(result.numpy())
    side = max(1, math.floor(square.side))
    if side < image.width:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    first, step = left + 1j * top - square.top_left, 1 / (2 * square.half)
    placed = _transform(image, right - left, bottom - top, step * image.width, first * step * image.width)
    x, y = np.arange(right - left) + 0.5, np.arange(bottom - top)[:, None] + 0.5
    weight = _weight((first + x + 1j * y) * step, feather)
    region = out[:, top:bottom, left:right]
    region.copy_(_over(region.numpy(), np.asarray(placed).transpose(2, 0, 1), weight))
    return out


def _weight(place: NDArray[np.complex128], feather: float) -> NDArray[np.float64]:
    """Return how much of a picture counts at a place of its unit square: 0 at the edge and beyond, 1 farther inside."""
    inside = np.minimum(np.minimum(place.real, 1 - place.real), np.minimum(place.imag, 1 - place.imag))
    t = np.clip(inside / feather, 0, 1)
    return t * t * (3 - 2 * t)


def _over(below: NDArray[np.uint8], above: NDArray[np.uint8], weight: NDArray[np.float64]) -> Tensor:
    """Composite an opaque picture [3, h, w] with a weight [h, w] over one [3, h, w] or, with alpha, [4, h, w]."""
    alpha = below[3] / 255 if len(below) == 4 else np.ones(weight.shape)
    left_over = alpha * (1 - weight)
    total = weight + left_over
    mixed = (weight * above + left_over * below[:3]) / np.where(total > 0, total, 1)
    colours = np.where(total > 0, mixed, below[:3])
    layers = [*colours, 255 * total] if len(below) == 4 else list(colours)
    return torch.from_numpy(np.rint(np.stack(layers)).astype(np.uint8))


def _transform(
    image: Image.Image,
    width: int,
    height: int,
    step: complex,
    origin: complex,
    scale_x: float = 1.0,
    scale_y: float = 1.0,
) -> Image.Image:
    """Return what is at ``origin + step * (x + iy)``, in pixels of the image before it was scaled, cubic."""
    of_x = (step.real * scale_x, -step.imag * scale_x, origin.real * scale_x)
    of_y = (step.imag * scale_y, step.real * scale_y, origin.imag * scale_y)
    return image.transform((width, height), Image.Transform.AFFINE, (*of_x, *of_y), Image.Resampling.BICUBIC)


def _mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return which of ``size`` pixels a place shows, also beyond them: 2 1 0 | 0 1 2 | 2 1 0."""
    periodic = index % (2 * size)
    return np.minimum(periodic, 2 * size - 1 - periodic)


def _to_image(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
