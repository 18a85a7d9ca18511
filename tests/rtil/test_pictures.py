import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import make_grid

from rtil.pictures import image_grid, readable, save_png
from rtil.seeds import generator


def pictures(*shape):
    return torch.rand(shape, generator=generator(0, "test"))


def test_image_grid_equals_torchvisions():
    x = pictures(7, 3, 16, 16)
    assert torch.equal(image_grid(x, nrow=3), make_grid(x, nrow=3, padding=0))


@pytest.mark.parametrize(("side", "shown"), [(16, 96), (40, 120), (96, 96), (100, 100)])
def test_small_pictures_are_enlarged_by_a_whole_factor(side, shown):
    x = pictures(2, 3, side, side + 2)
    factor = shown // side
    assert torch.equal(readable(x), torch.kron(x, torch.ones(factor, factor)))
    assert readable(x[0]).shape == (3, shown, (side + 2) * factor)


def test_pictures_are_saved_clamped_and_rounded(tmp_path):
    x = pictures(3, 8, 6) * 2 - 0.5
    save_png(x, tmp_path / "new" / "x.png")
    saved = torch.from_numpy(np.array(Image.open(tmp_path / "new" / "x.png"))).permute(2, 0, 1)
    assert torch.equal(saved, (x.clamp(0, 1) * 255).round().byte())
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.png"]
