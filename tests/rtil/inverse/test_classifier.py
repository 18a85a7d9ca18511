import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilo import CSGM, ILO, PULSE
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.classifier import Classification

SIDE = 16
CLASSES = 3
RADII = ("radius_noise", "radius_latent", "radius_feature")


@pytest.fixture(scope="module")
def generator() -> StyleGAN2Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = StyleGAN2Generator(SIDE, {4: 12, 8: 12, 16: 8}, z_dim=24, w_dim=24, mapping_layers=2)
    with torch.no_grad():
        for block in G.blocks:
            block.torgb.weight.mul_(0.3)
    return G


def network(scale: float = 30.0) -> nn.Module:
    """Three classes by two convolutions with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3),
            nn.Flatten(),
            nn.Linear(200, CLASSES),
        )
    with torch.no_grad():
        layers[-1].weight.mul_(scale)
    return layers.eval().requires_grad_(False)


@pytest.fixture
def task() -> Classification:
    return Classification(network(), (3, SIDE, SIDE), CLASSES)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path_factory.getbasetemp() / "gaussian-fits"))
    monkeypatch.setattr("rtil.devices.cpu_multiplies_bfloat16", lambda: False)


def test_log_likelihood_and_its_gradient_are_those_of_the_direct_formula() -> None:
    """A linear classifier in numpy float64: d/dx -log softmax(W x)_c = W^T (p - e_c)."""
    rng = np.random.default_rng(0)
    W, x = rng.normal(size=(CLASSES, 3 * 4 * 4)), rng.uniform(0.1, 0.9, size=(2, 3, 4, 4))
    task = Classification(lambda x: x.flatten(1) @ torch.from_numpy(W).T, (3, 4, 4), CLASSES)
    picture = torch.from_numpy(x).requires_grad_()
    y = task.target([2, 0]).double()
    error = task.error(picture, y)
    logits = x.reshape(2, -1) @ W.T
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(error.detach().numpy(), -np.log(p[[0, 1], [2, 0]]), atol=1e-12)
    (gradient,) = torch.autograd.grad(error.sum(), picture)
    by_hand = ((p - np.eye(CLASSES)[[2, 0]]) @ W).reshape(x.shape)
    assert np.allclose(gradient.numpy(), by_hand, atol=1e-12)
    assert np.allclose(task.A_vjp(picture, -y).numpy(), by_hand, atol=1e-12)


def test_the_error_of_a_picture_is_that_of_the_operator(task: Classification) -> None:
    x = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(network()(x), torch.tensor([0, 1, 2, 0]), reduction="none")
    assert task.error(x, task.target([0, 1, 2, 0])).allclose(expected, atol=1e-6)


def test_values_that_no_picture_has_do_not_convince(task: Classification) -> None:
    x = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 3
    assert task.A(x).equal(task.A(x.clamp(0, 1)))


@pytest.mark.parametrize("method", [ILO, CSGM, PULSE])
def test_the_probability_of_the_class_rises(
    method: type[ILO], generator: StyleGAN2Generator, task: Classification
) -> None:
    classes = [0, 1, 2]
    y = task.target(classes)
    before = task.A(ILO(generator, steps=(0,)).invert(y, task).x).exp()[classes, classes]
    found = method(generator, steps=(8, 4, 4) if method is ILO else 16).invert(y, task)  # type: ignore[arg-type]
    after = task.A(found.x).exp()[classes, classes]
    assert (after > before).all()
    assert after.mean() > 0.8 > before.mean()
    assert found.score.allclose(-after.log(), atol=1e-3)


def test_a_ball_of_radius_0_keeps_the_picture(generator: StyleGAN2Generator, task: Classification) -> None:
    y = task.target([1, 2])
    start = ILO(generator, steps=(0,)).invert(y, task).x
    held = ILO(generator, steps=(3, 3, 3), **dict.fromkeys(RADII, 0.0)).invert(y, task)
    assert held.x.equal(start)


def test_a_larger_ball_finds_a_likelier_picture_farther_away(
    generator: StyleGAN2Generator, task: Classification
) -> None:
    y = task.target([0, 1, 2])
    start = ILO(generator, steps=(0,)).invert(y, task).x
    found = [ILO(generator, steps=(5, 5), **dict.fromkeys(RADII, r)).invert(y, task) for r in (0.0, 0.3, 3.0, 30.0)]
    scores = [inversion.score.mean().item() for inversion in found]
    changes = [(inversion.x - start).square().mean().item() for inversion in found]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4
    assert changes == sorted(changes)


def test_pictures_do_not_touch_each_other(generator: StyleGAN2Generator, task: Classification) -> None:
    solver = ILO(generator, steps=(4, 4), radius_feature=1.0)
    together = solver.invert(task.target([0, 2, 1]), task, ["a", "b", "c"]).x
    alone = solver.invert(task.target([2]), task, ["b"]).x
    assert torch.allclose(together[1], alone[0], atol=1e-5)


def test_only_the_classifier_stays_float32(generator: StyleGAN2Generator) -> None:
    seen: set[torch.dtype] = set()

    def watched(x: Tensor) -> Tensor:
        seen.add(x.dtype)
        return network()(x)  # type: ignore[no-any-return]

    task = Classification(watched, (3, SIDE, SIDE), CLASSES)
    ILO(generator, steps=(2, 2), precision="bfloat16").invert(task.target([0]), task)
    assert seen == {torch.float32}


def test_mistakes_are_told(generator: StyleGAN2Generator, task: Classification) -> None:
    with pytest.raises(UserError, match="training mode"):
        Classification(network().train(), (3, SIDE, SIDE), CLASSES)
    with pytest.raises(UserError, match=r"returns \[1, 3\]: valid are logits \[N, 4\]"):
        Classification(network(), (3, SIDE, SIDE), 4).A(torch.zeros(1, 3, SIDE, SIDE))
    with pytest.raises(UserError, match="class 3 does not exist: valid are 0 to 2"):
        task.target([0, 3])
    with pytest.raises(UserError, match="'heldout' has no entries"):
        ILO(generator, steps=(1,), selection="heldout").invert(task.target([0]), task)
    with pytest.raises(UserError, match="no A_adjoint"):
        task.A_adjoint(task.target([0]))


def test_probabilities_near_0_and_1_stay_finite(generator: StyleGAN2Generator) -> None:
    task = Classification(network(scale=1e5), (3, SIDE, SIDE), CLASSES)
    found = ILO(generator, steps=(3, 3)).invert(task.target([0, 1, 2]), task)
    assert all(map(math.isfinite, found.score.tolist()))
    assert found.status == ["ok"] * 3
