"""Pictures of reconstructions, side by side, as PNG files."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rtil.errors import UserError
from rtil.files import atomic_path
from rtil.inverse.operators import LinearOperator, Operator
from rtil.inverse.perceptual import is_picture
from rtil.pictures import readable, to_pillow

GAP_PIXELS = 4
LABEL_PIXELS = 14
GREY = 0.5


def picture_grid(columns: Mapping[str, Tensor], path: str | Path, rows: Sequence[str] | None = None) -> None:
    """Write pictures to a PNG file, one labelled column for each name and one row for each image, atomically.

    Small pictures are enlarged by a whole factor, pixel by pixel, to at least 96 pixels.

    Args:
        columns: {label: [N, 3, H, W] in [0, 1], clamped}; all of one shape, in the order they are shown.
        path: PNG file.
        rows: N labels, written to the left; repeated ones once. None for no labels.

    Raises:
        UserError: There is nothing to show, or shapes differ.
    """
    shapes = {tuple(pictures.shape) for pictures in columns.values()}
    if len(shapes) != 1 or 0 in next(iter(shapes)):
        raise UserError(f"a picture grid needs columns of one shape [N, 3, H, W], N >= 1: got {sorted(shapes)}")
    enlarged = {label: readable(pictures) for label, pictures in columns.items()}
    N, _, H, W = next(iter(enlarged.values())).shape
    font = ImageFont.load_default(LABEL_PIXELS)
    top = LABEL_PIXELS + 2 * GAP_PIXELS
    margin = 0 if rows is None else math.ceil(max(map(font.getlength, rows))) + GAP_PIXELS
    width = margin + len(columns) * (W + GAP_PIXELS) + GAP_PIXELS
    canvas = Image.new("RGB", (width, top + N * (H + GAP_PIXELS)), "white")
    draw = ImageDraw.Draw(canvas)
    for r, name in enumerate(rows or []):
        if r == 0 or rows is None or rows[r - 1] != name:
            draw.text((GAP_PIXELS, top + r * (H + GAP_PIXELS) + H / 2), name, fill="black", font=font, anchor="lm")
    for c, (label, pictures) in enumerate(enlarged.items()):
        left = margin + GAP_PIXELS + c * (W + GAP_PIXELS)
        draw.text((left + W / 2, top / 2), fitting(label, font, W), fill="black", font=font, anchor="mm")
        for r, picture in enumerate(pictures):
            canvas.paste(to_pillow(picture), (left, top + r * (H + GAP_PIXELS)))
    with atomic_path(path) as temporary:
        canvas.save(temporary, format="PNG", optimize=True)


def show_measurement(y: Tensor, operator: Operator) -> Tensor:
    """Return what a measurement looks like, [N, C, H, W] in [0, 1].

    Pictures with missing pixels show grey there; small pictures are enlarged pixel by pixel; luma is shown in grey. A
    measurement that is no picture is stretched to [0, 1]: of a linear operator its adjoint (for Fourier measurements
    the zero-filled reconstruction), of phase retrieval the log(1 + amplitude) of the first exposure.

    Args:
        y: Measurements [N, *measurement_shape].
        operator: What they were measured with.
    """
    operator.check_measurement(y)
    C, H, W = operator.img_size
    if y.shape[1:] == (C, H, W):
        return torch.where(operator.observed, y, GREY).clamp(0, 1)
    if is_picture(y.shape[1:]) and H % y.shape[2] == 0 and W % y.shape[3] == 0:
        enlarged = y.repeat_interleave(H // y.shape[2], 2).repeat_interleave(W // y.shape[3], 3)
        return enlarged.expand(-1, C, -1, -1).clamp(0, 1)
    x = operator.A_adjoint(y) if isinstance(operator, LinearOperator) else y[:, 0].clamp(min=0).log1p()
    if x.shape[-2:] != (H, W):
        x = F.interpolate(x, (H, W), mode="bilinear", antialias=True)
    low, high = (extreme((1, 2, 3), keepdim=True) for extreme in (x.amin, x.amax))
    return (x - low) / (high - low).clamp(min=torch.finfo(x.dtype).tiny)


def spread_colours(spread: Tensor, white: float) -> Tensor:
    """Return standard deviations [N, 3, H, W] as colours, the mean over the channels: from black (0) to white."""
    import matplotlib as mpl

    colours = mpl.colormaps["magma"]((spread.mean(1) / (white or 1.0)).clamp(0, 1).cpu().numpy())[..., :3]
    return torch.from_numpy(colours).permute(0, 3, 1, 2)


def fitting(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Cut a label to a width in pixels."""
    if font.getlength(label) <= width:
        return label
    while label and font.getlength(label + "..") > width:
        label = label[:-1]
    return label + ".."
