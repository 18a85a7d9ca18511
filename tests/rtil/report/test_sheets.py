import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.report.sheets import LOSSLESS_PIXELS, MOST_PIXELS, SHEET_PIXELS, Layout, most_pictures, sheets_of


def cut(sheets, layout, index):
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheets[index // layout.per_sheet]))).convert("RGB"))
    row, column = divmod(index % layout.per_sheet, layout.across)
    side = layout.side
    return sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]


@pytest.mark.parametrize(("side", "count"), [(8, 1), (8, 7), (512, 5)])
def test_pictures_are_cut_out_again_as_they_were(side, count):
    layout = Layout.of(side, count, columns=1)
    pictures = list(torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0)).byte())
    pictures[0] = None if count > 1 else pictures[0]
    sheets = list(sheets_of(pictures, layout))
    assert len(sheets) == -(-count // layout.per_sheet)
    for index, picture in enumerate(pictures):
        found = cut(sheets, layout, index)
        assert (found == (128 if picture is None else picture.permute(1, 2, 0).numpy())).all()


def test_sheets_are_no_larger_than_a_browser_likes():
    for side in (8, 32, 256, 1024, 2048):
        layout = Layout.of(side, 10_000, 1)
        assert layout.per_sheet == 1 or layout.per_sheet * side**2 <= SHEET_PIXELS


def test_many_pixels_are_compressed_and_far_too_many_left_out():
    assert Layout.of(32, 100, 141).is_lossless  # the page of 100 pictures, 20 cells and 6 methods
    assert not Layout.of(256, 100, 141).is_lossless
    assert most_pictures(32, 141) > 100
    count = most_pictures(256, 141)
    assert count * 141 * 256**2 <= MOST_PIXELS < (count + 1) * 141 * 256**2
    assert LOSSLESS_PIXELS < MOST_PIXELS
