import pytest
import torch

from rtil.baselines import adjoint, open_baseline
from rtil.baselines.plug_and_play import PlugAndPlay, dpir, pnp_bm3d
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.errors import UserError
from rtil.evaluation.metrics import psnr
from rtil.inverse.operators import make_operator

deepinv = pytest.importorskip("deepinv")
pytest.importorskip("ptwt")


@pytest.fixture(scope="module")
def faces():
    return SyntheticFaces(16, "validation").load(range(2)).float() / 255


@pytest.mark.parametrize(
    ("task", "settings"), [("denoise", {"sigma": 50.0}), ("blur", {"width": 1.0, "noise_sigma": 0.05})]
)
def test_better_than_the_least_picture_that_fits(faces, task, settings):
    operator = make_operator(task, (3, 16, 16), **settings)
    y = operator(faces)
    assert (psnr(pnp_bm3d()(y, operator), faces) > psnr(adjoint(y, operator), faces) + 1).all()


def test_the_steps_are_those_of_half_quadratic_splitting(faces):
    operator = make_operator("inpaint", (3, 16, 16), rate=0.5, noise_sigma=0.1)
    y = operator(faces)
    x = operator.A_adjoint(y)
    levels = torch.logspace(torch.tensor(49 / 255).log10(), torch.tensor(0.1).log10(), 8)
    for sigma in levels.tolist():
        x = operator.prox_l2(x, y, (sigma / 0.1) ** 2 / 0.23) * (1 - sigma)
    found = PlugAndPlay(lambda x, sigma: x * (1 - sigma))(y, operator)
    torch.testing.assert_close(found, x.clamp(0, 1), atol=1e-4, rtol=0)


def test_weights_come_from_a_file(tmp_path, faces):
    network = deepinv.models.DRUNet(pretrained=None)
    torch.save(network.state_dict(), tmp_path / "drunet.pth")
    operator = make_operator("sr", (3, 16, 16), factor=2)
    y = operator(faces)
    found = open_baseline("dpir", tmp_path / "drunet.pth")(y, operator)
    assert torch.equal(found, PlugAndPlay(network.eval())(y, operator))


def test_what_lacks_is_told(tmp_path):
    (tmp_path / "other.pth").write_bytes(b"no weights")
    for weights, words in (
        (None, "needs DRUNet's weights: --drunet PATH"),
        (tmp_path / "none.pth", "is no file"),
        (tmp_path / "other.pth", "is no state dict"),
    ):
        with pytest.raises(UserError, match=words) as error:
            dpir(weights)
        assert "\n" not in str(error.value)
