"""A small chart with Pillow: lines or intervals over logarithmic axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rtil.files import atomic_path

WIDTH_PIXELS, HEIGHT_PIXELS = 640, 400
LEFT_PIXELS, RIGHT_PIXELS, TOP_PIXELS, BOTTOM_PIXELS = 70, 16, 30, 50
TEXT_PIXELS, LEGEND_ROW_PIXELS, CAP_PIXELS = 13, 18, 4
LIGHT = "#dddddd"


@dataclass(frozen=True)
class Series:
    """One line, or with ``low`` and ``high`` one interval for each x with a dot at y.

    Attributes:
        label: Text of the legend.
        x: Positions, > 0.
        y: Values, > 0.
        colour: A Pillow colour.
        low: Lower ends of the intervals.
        high: Upper ends of the intervals.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def draw_chart(
    path: str | Path, series: Sequence[Series], title: str, x_ticks: Sequence[float], y_ticks: Sequence[float]
) -> None:
    """Write a chart with two logarithmic axes to a PNG file, atomically.

    The axes span their ticks; what lies outside is drawn at the edge.

    Args:
        path: PNG file.
        series: What to draw, in the order of the legend.
        title: Text above the chart.
        x_ticks: Labelled positions, ascending; the axis has a margin around them.
        y_ticks: Labelled values, ascending; first and last are the edges.
    """
    canvas = Image.new("RGB", (WIDTH_PIXELS, HEIGHT_PIXELS), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(TEXT_PIXELS)
    bottom, right = HEIGHT_PIXELS - BOTTOM_PIXELS, WIDTH_PIXELS - RIGHT_PIXELS
    margin = (x_ticks[-1] / x_ticks[0]) ** 0.08

    def column(x: float) -> float:
        return LEFT_PIXELS + (right - LEFT_PIXELS) * _share(x, x_ticks[0] / margin, x_ticks[-1] * margin)

    def row(y: float) -> float:
        return bottom - (bottom - TOP_PIXELS) * _share(y, y_ticks[0], y_ticks[-1])

    draw.text((LEFT_PIXELS, TOP_PIXELS / 2), title, fill="black", font=font, anchor="lm")
    for y in y_ticks:
        draw.line([(LEFT_PIXELS, row(y)), (right, row(y))], fill=LIGHT)
        draw.text((LEFT_PIXELS - 6, row(y)), f"{y:g}", fill="black", font=font, anchor="rm")
    for x in x_ticks:
        draw.text((column(x), bottom + 12), f"{x:g}", fill="black", font=font, anchor="mm")
    left = float(LEFT_PIXELS)
    for one in series:
        points = [(column(x), row(y)) for x, y in zip(one.x, one.y, strict=True)]
        if one.low:
            for (x, y), low, high in zip(points, one.low, one.high, strict=True):
                _interval(draw, x, y, row(low), row(high), one.colour)
        else:
            draw.line(points, fill=one.colour, width=2)
        legend = HEIGHT_PIXELS - LEGEND_ROW_PIXELS / 2 - 4
        draw.rectangle([left, legend - 4, left + 8, legend + 4], fill=one.colour)
        draw.text((left + 13, legend), one.label, fill="black", font=font, anchor="lm")
        left += 13 + font.getlength(one.label) + 16
    with atomic_path(path) as temporary:
        canvas.save(temporary, format="PNG", optimize=True)


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two others on a logarithmic scale, clamped to [0, 1]."""
    if value <= low:
        return 0.0
    return min(1.0, math.log(value / low) / math.log(high / low))


def _interval(draw: ImageDraw.ImageDraw, x: float, y: float, low: float, high: float, colour: str) -> None:
    draw.line([(x, low), (x, high)], fill=colour, width=2)
    for end in (low, high):
        draw.line([(x - CAP_PIXELS, end), (x + CAP_PIXELS, end)], fill=colour, width=2)
    draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
