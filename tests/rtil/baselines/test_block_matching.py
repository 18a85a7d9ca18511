import sys

import pytest
import torch

from rtil.baselines.block_matching import BM3D, OPPONENT
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.errors import UserError
from rtil.inverse.operators import make_operator

SIZE = (3, 32, 32)


def psnr(a, b):
    return -10 * (a - b).square().flatten(1).mean(1).log10()


def test_opponent_colours_keep_white_noise_white():
    assert torch.allclose(OPPONENT @ OPPONENT.T, torch.eye(3), atol=1e-6)


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ptwt", None)
    with pytest.raises(UserError, match=r"rtil\[baselines\]"):
        BM3D()


def test_it_denoises_better_than_matching_in_the_red_channel():
    pytest.importorskip("ptwt", reason="the extra 'baselines' is not installed")
    models = pytest.importorskip("deepinv.models", reason="the extra 'baselines' is not installed")
    faces = SyntheticFaces(32, "validation").load(range(2)).float() / 255
    operator = make_operator("denoise", SIZE, sigma=30)
    y = operator(faces)
    found = BM3D()(y, operator)
    assert (psnr(found, faces) > psnr(y, faces) + 6).all()
    as_deepinv_does = models.BM3D(use_legacy=False)(y, 30 / 255).clamp(0, 1)
    assert psnr(found, faces).mean() > psnr(as_deepinv_does, faces).mean() + 0.3
    assert torch.equal(BM3D()(y[1:], operator)[0], found[1])
    silent = make_operator("denoise", SIZE, sigma=0)
    assert torch.equal(BM3D()(faces, silent), faces)
    with pytest.raises(UserError, match="use tv"):
        BM3D()(y, make_operator("inpaint", SIZE, rate=0.5))
