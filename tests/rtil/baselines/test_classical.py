import numpy as np
import pytest
import torch
from PIL import Image

from rtil.baselines import BASELINES, adjoint, baselines_of, bicubic, open_baseline
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.errors import UserError
from rtil.inverse.operators import make_operator

SIZE = (3, 16, 16)
PNP = ("pnp-bm3d", "dpir")


@pytest.fixture(scope="module")
def faces():
    return SyntheticFaces(16, "validation").load(range(3)).float() / 255


def psnr(a, b):
    return -10 * (a - b).square().flatten(1).mean(1).log10()


@pytest.mark.parametrize(
    ("task", "settings", "names"),
    [
        ("inversion", {}, ["adjoint", "tv", *PNP]),
        ("denoise", {"sigma": 25.0}, ["adjoint", "tv", "bm3d", *PNP]),
        ("inpaint", {"rate": 0.3}, ["adjoint", "tv", *PNP]),
        ("sr", {"factor": 4}, ["adjoint", "bicubic", "tv", *PNP]),
        ("cs", {"rate": 0.2}, ["adjoint", "tv", *PNP]),
        ("mri", {"rate": 0.3}, ["adjoint", "tv", *PNP]),
        ("phase", {"exposures": 2}, []),
    ],
)
def test_which_baselines_a_task_has(task, settings, names):
    assert baselines_of(make_operator(task, SIZE, **settings)) == names


def test_adjoint_is_zero_filled_for_masks_and_fits_the_data_elsewhere(faces):
    mask = make_operator("inpaint", SIZE, rate=0.3)
    assert torch.equal(adjoint(mask(faces), mask), mask.A(faces))
    operator = make_operator("sr", SIZE, factor=2)
    matrix = torch.stack([operator.A(e.view(1, *SIZE)).flatten() for e in torch.eye(768)], 1)
    y = operator(faces)
    least_norm = (torch.linalg.pinv(matrix) @ y.flatten(1).T).T.view_as(faces)
    assert torch.allclose(adjoint(y, operator), least_norm.clamp(0, 1), atol=1e-3)


def test_adjoint_does_not_blow_noise_up(faces):
    operator = make_operator("blur", SIZE, width=1.5, noise_sigma=0.05)
    y = operator(faces)
    assert (psnr(adjoint(y, operator), faces) > psnr(operator.A_dagger(y).clamp(0, 1), faces) + 3).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_bicubic_is_pillows(faces, factor):
    operator = make_operator("sr", SIZE, factor=factor)
    y = operator(faces)
    channels = [Image.fromarray(c.numpy()).resize((16, 16), Image.Resampling.BICUBIC) for c in y.flatten(0, 1)]
    expected = torch.from_numpy(np.stack([np.asarray(c) for c in channels])).view_as(faces).clamp(0, 1)
    assert torch.allclose(bicubic(y, operator), expected, atol=1e-5)


def test_wrong_uses_are_told():
    phase = make_operator("phase", SIZE, exposures=2)
    with pytest.raises(UserError, match="linear operator"):
        adjoint(torch.zeros(1, 2, 3, 16, 16), phase)
    with pytest.raises(UserError, match="use adjoint or tv"):
        bicubic(torch.zeros(1, 3, 16, 16), make_operator("inversion", SIZE))
    with pytest.raises(UserError, match="did you mean 'bicubic'"):
        open_baseline("bicubik")
    assert list(BASELINES) == ["adjoint", "bicubic", "tv", "bm3d", *PNP]
