"""Pictures of a report, many to a sheet: one WebP file for each column of a gallery, or several where they are large.

A browser decodes a sheet when one of its pictures comes into view, and cuts the pictures out. Sheets take fewer bytes
than single files, whose headers are half of a picture of 32 pixels, and a page of 14,000 pictures holds 141 texts.
"""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

SHEET_PIXELS = 2**20
LOSSLESS_PIXELS = 2**25
"""So many in all stay as they are to the last bit, about 60 MB of a page; of more, sheets are lossy."""
MOST_PIXELS = 2**28
"""Of more, each cell shows fewer pictures: a page of 100 MB or so is the end."""
QUALITY, EFFORT = 92, 2
"""Of lossy sheets; and how hard WebP tries: at 4 it takes three times as long for 2 % fewer bytes."""
GREY = 128


class Layout(NamedTuple):
    """How pictures lie on sheets.

    Attributes:
        side: Of a picture, in pixels.
        across: Pictures in a line of a sheet.
        per_sheet: Pictures of a sheet.
        is_lossless: Whether sheets hold the very pixels.
    """

    side: int
    across: int
    per_sheet: int
    is_lossless: bool

    @classmethod
    def of(cls, side: int, count: int, columns: int) -> "Layout":
        """Return the layout of so many columns of pictures, count in each."""
        per_sheet = max(1, min(count, SHEET_PIXELS // side**2))
        return cls(side, math.ceil(math.sqrt(per_sheet)), per_sheet, columns * count * side**2 <= LOSSLESS_PIXELS)


def most_pictures(side: int, columns: int) -> int:
    """Return how many pictures of each column a page has room for."""
    return max(1, MOST_PIXELS // (side**2 * max(columns, 1)))


def sheets_of(pictures: Sequence[Tensor | None], layout: Layout) -> Iterator[str]:
    """Yield sheets as base64 texts.

    Args:
        pictures: uint8 [3, side, side] each; grey stands for None.
        layout: How they lie.
    """
    side = layout.side
    for start in range(0, len(pictures), layout.per_sheet):
        some = pictures[start : start + layout.per_sheet]
        sheet = np.full((math.ceil(len(some) / layout.across) * side, layout.across * side, 3), GREY, np.uint8)
        for number, picture in enumerate(some):
            if picture is not None:
                top, left = (side * place for place in divmod(number, layout.across))
                sheet[top : top + side, left : left + side] = picture.permute(1, 2, 0).numpy()
        data = io.BytesIO()
        lossless = {"lossless": True, "quality": 30} if layout.is_lossless else {"quality": QUALITY}
        Image.fromarray(sheet).save(data, format="WEBP", method=EFFORT, **lossless)
        yield base64.b64encode(data.getvalue()).decode("ascii")
