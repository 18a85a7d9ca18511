import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from rtil.errors import UserError
from rtil.inverse.operators import Downsampling

SIZES = [((3, 32, 32), 2), ((3, 32, 32), 4), ((3, 32, 32), 16), ((1, 15, 9), 3), ((3, 8, 24), 8)]


@pytest.mark.parametrize(("img_size", "factor"), SIZES)
def test_equals_pillow(img_size, factor):
    x = torch.rand(2, *img_size, generator=torch.Generator().manual_seed(0))
    y = Downsampling(img_size, factor).A(x)
    _, H, W = img_size
    for image, small in zip(x.flatten(0, 1), y.flatten(0, 1), strict=True):
        shrunk = Image.fromarray(image.numpy()).resize((W // factor, H // factor), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(small.numpy(), np.asarray(shrunk), atol=1e-6)


@pytest.mark.parametrize(("img_size", "factor"), SIZES)
def test_equals_interpolate(img_size, factor):
    x = torch.rand(2, *img_size, dtype=torch.float64)
    operator = Downsampling(img_size, factor)
    expected = F.interpolate(x, size=operator.measurement_shape[1:], mode="bicubic", antialias=True)
    torch.testing.assert_close(operator.A(x), expected, atol=1e-6, rtol=0)


def test_flat_pictures_stay_flat():
    y = Downsampling((3, 32, 32), 4).A(torch.full((1, 3, 32, 32), 0.7))
    torch.testing.assert_close(y, torch.full((1, 3, 8, 8), 0.7), atol=1e-6, rtol=0)


@pytest.mark.parametrize("factor", [0, 1, -2, 3, 64, 2.5])
def test_bad_factor(factor):
    with pytest.raises(UserError, match=rf"factor is {factor}: valid for 16x24 pictures are 2, 4, 8$"):
        Downsampling((3, 16, 24), factor)


def test_size_without_a_valid_factor():
    with pytest.raises(UserError, match="are none"):
        Downsampling((3, 3, 4), 2)
