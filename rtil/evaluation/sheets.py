"""A sheet for each reconstruction: what was given, what was measured of it, what came out, and how sure it is."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from rtil.evaluation.figures import fitting, show_measurement, spread_colours
from rtil.files import atomic_path
from rtil.inverse.operators import FourierSampling, Inpainting, LinearOperator, Operator
from rtil.pictures import to_pillow

PANEL_PIXELS = 224
MOST_PANEL_PIXELS = 512
MARGIN_PIXELS = 20
GAP_PIXELS = 14
TITLE_PIXELS, TEXT_PIXELS = 18, 13
INK, PALE, FRAME = "#1a1a1a", "#6b6b6b", "#d9d9d9"
TINT = (0.90, 0.20, 0.45)
TINT_SHARE = 0.6


class Panel(NamedTuple):
    """One picture of a sheet.

    Attributes:
        title: Above it.
        picture: [3, H, W] in [0, 1].
        caption: Below it.
    """

    title: str
    picture: Tensor
    caption: str = ""


def write_sheet(path: Path, title: str, subtitle: str, panels: Sequence[Panel]) -> None:
    """Write panels in a row to a PNG file, atomically.

    Small pictures are enlarged pixel by pixel, where a whole factor fills the panel; others are resized smoothly.

    Args:
        path: PNG file.
        title: First line.
        subtitle: Second line.
        panels: From left to right.
    """
    side = panel_side(max(max(panel.picture.shape[1:]) for panel in panels if panel.title != "input"))
    large, small = ImageFont.load_default(TITLE_PIXELS), ImageFont.load_default(TEXT_PIXELS)
    top = MARGIN_PIXELS + 2 * TITLE_PIXELS + TEXT_PIXELS + GAP_PIXELS
    row = top + TEXT_PIXELS + 10
    width = 2 * MARGIN_PIXELS + len(panels) * side + (len(panels) - 1) * GAP_PIXELS
    canvas = Image.new("RGB", (width, row + side + 8 + TEXT_PIXELS + MARGIN_PIXELS), "white")
    draw = ImageDraw.Draw(canvas)
    inside = width - 2 * MARGIN_PIXELS
    draw.text((MARGIN_PIXELS, MARGIN_PIXELS), fitting(title, large, inside), fill=INK, font=large)
    under = MARGIN_PIXELS + TITLE_PIXELS + 8
    draw.text((MARGIN_PIXELS, under), fitting(subtitle, small, inside), fill=PALE, font=small)
    for i, panel in enumerate(panels):
        left = MARGIN_PIXELS + i * (side + GAP_PIXELS)
        draw.text((left, top), fitting(panel.title, small, side), fill=INK, font=small)
        draw.rectangle((left - 1, row - 1, left + side, row + side), outline=FRAME)
        picture = _sized(to_pillow(panel.picture.float().clamp(0, 1)), side)
        canvas.paste(picture, (left + (side - picture.width) // 2, row + (side - picture.height) // 2))
        draw.text((left, row + side + 8), fitting(panel.caption, small, side), fill=PALE, font=small)
    with atomic_path(path) as temporary:
        canvas.save(temporary, format="PNG")


def panel_side(pixels: int) -> int:
    """Return how large pictures of a side are shown: a whole multiple of at least 224 pixels, or at most 512.

    Example:
        >>> panel_side(32), panel_side(256), panel_side(1024)
        (224, 256, 512)
    """
    return min(pixels * math.ceil(PANEL_PIXELS / pixels), MOST_PANEL_PIXELS)


def measurement_panel(y: Tensor, operator: Operator) -> Panel:
    """Return what a measurement [*measurement_shape] looks like; see ``show_measurement``."""
    shape = operator.measurement_shape
    (picture,) = show_measurement(y[None], operator)
    shown = "" if len(shape) == 3 else " (adjoint)" if isinstance(operator, LinearOperator) else " (log amplitude)"
    return Panel(f"measurement{shown}", picture, f"{' x '.join(map(str, shape))} numbers")


def observed_panel(operator: Operator, picture: Tensor) -> Panel | None:
    """Return where a picture was measured, or None where every number tells of all of it.

    Args:
        operator: By which.
        picture: The picture [3, H, W] in [0, 1], of which missing pixels are tinted.
    """
    if isinstance(operator, Inpainting):
        share = operator.mask.double().mean().item()
        return Panel("where measured", tinted(picture, ~operator.mask), f"{100 * share:.3g} % observed, tinted missing")
    if isinstance(operator, FourierSampling):
        plane = frequencies(operator)
        share = plane.double().mean().item()
        return Panel("where measured", plane.float().expand(3, -1, -1), f"{100 * share:.3g} % of the frequencies")
    return None


def tinted(picture: Tensor, missing: Tensor) -> Tensor:
    """Return a picture [3, H, W] in which missing pixels, bool [H, W], have a tint."""
    tint = torch.tensor(TINT, device=picture.device)[:, None, None]
    return torch.where(missing, torch.lerp(picture, tint.expand_as(picture), TINT_SHARE), picture)


def frequencies(operator: FourierSampling) -> Tensor:
    """Return which frequencies are observed, bool [H, W], the lowest in the middle, mirror images counted."""
    H, W = operator.img_size[1:]
    half = operator.mask & (operator.multiplicity > 0)
    full = torch.zeros(H, W, dtype=torch.bool, device=half.device)
    full[:, : half.shape[1]] = half
    mirrored = full.flip(0, 1).roll((1, 1), (0, 1))  # frequency (-i, -j)
    return torch.fft.fftshift(full | mirrored)


def spread_panel(spread: Tensor) -> Panel:
    """Return the standard deviation [3, H, W] of restarts as colours, the mean over the channels."""
    top = spread.mean(0).max().item()
    return Panel("spread", spread_colours(spread[None], top)[0], f"std, black 0 to white {top:.2g}")


def _sized(picture: Image.Image, side: int) -> Image.Image:
    factor, rest = divmod(side, max(picture.size))
    if factor and not rest:
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return ImageOps.contain(picture, (side, side), Image.Resampling.LANCZOS)
