import sys

import pytest
import torch

from rtil.baselines.total_variation import TotalVariation, weight_for
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.errors import UserError
from rtil.inverse.operators import make_operator

pytest.importorskip("skimage")
SIZE = (3, 16, 16)


@pytest.fixture(scope="module")
def faces():
    return SyntheticFaces(16, "validation").load(range(3)).float() / 255


def psnr(a, b):
    return -10 * (a - b).square().flatten(1).mean(1).log10()


def objective(x, y, operator, weight, smoothing=0.0):
    """Written anew: forward differences, none past the last row and column."""
    down = torch.zeros_like(x)
    right = torch.zeros_like(x)
    down[..., :-1, :] = x.diff(dim=-2)
    right[..., :-1] = x.diff(dim=-1)
    variation = (down.square() + right.square() + smoothing**2).sqrt().flatten(1).sum(1)
    return (operator.A(x) - y).square().flatten(1).sum(1) / 2 + weight * variation


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("denoise", {"sigma": 25.0}),
        ("inpaint", {"rate": 0.3, "noise_sigma": 0.05}),
        ("cs", {"rate": 0.3, "noise_sigma": 0.05}),
    ],
)
def test_it_is_the_minimum(faces, task, settings):
    """L-BFGS on the objective with rounded corners, started from the result, finds next to nothing lower."""
    operator = make_operator(task, SIZE, **settings)
    y = operator(faces)
    weight = weight_for(operator)
    found = TotalVariation()(y, operator)
    x = found.clone().requires_grad_()
    search = torch.optim.LBFGS([x], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        loss = objective(x, y, operator, weight, 1e-3).sum()
        loss.backward()
        return loss

    search.step(closure)
    with torch.no_grad():
        ours, theirs = objective(found, y, operator, weight), objective(x, y, operator, weight)
    assert (ours < 1.01 * theirs).all()


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("denoise", {"sigma": 25.0}),
        ("inpaint", {"rate": 0.4}),
        ("inpaint", {"rate": 0.6, "noise_sigma": 0.1}),
        ("cs", {"rate": 0.3}),
    ],
)
def test_it_beats_the_adjoint_at_its_weight_for(faces, task, settings):
    operator = make_operator(task, SIZE, **settings)
    y = operator(faces)
    found = TotalVariation()(y, operator)
    assert (psnr(found, faces) > psnr(operator.A_dagger(y).clamp(0, 1), faces) + 2).all()
    assert torch.equal(TotalVariation()(y[1:2], operator)[0], found[1])


def test_weight_for_the_noise():
    assert weight_for(make_operator("denoise", SIZE, sigma=51)) == pytest.approx(0.7 * 0.2)
    assert weight_for(make_operator("cs", SIZE, rate=0.25, noise_sigma=0.1)) == pytest.approx(0.7 * 0.1 * 0.5)
    assert weight_for(make_operator("sr", SIZE, factor=2)) == 1e-3


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.restoration", None)
    with pytest.raises(UserError, match=r"rtil\[baselines\]"):
        TotalVariation()
