import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize

from rtil.inverse.l1_ball import project_l1


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_convex_solver_finds_the_same() -> None:
    t, radius = draw(0, 100).double().numpy(), 7.0
    split = minimize(  # p = a - b, a and b not negative
        lambda ab: 0.5 * np.square(ab[:100] - ab[100:] - t).sum(),
        np.zeros(200),
        jac=lambda ab: np.concatenate([ab[:100] - ab[100:] - t, t - ab[:100] + ab[100:]]),
        bounds=[(0, None)] * 200,
        constraints={"type": "ineq", "fun": lambda ab: radius - ab.sum(), "jac": lambda ab: -np.ones(200)},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert split.success
    ours = project_l1(torch.from_numpy(t).float()[None], radius)[0].numpy()
    np.testing.assert_allclose(ours, split.x[:100] - split.x[100:], atol=2e-5)


@pytest.mark.parametrize("radius", [0.01, 1.0, 30.0, 60.0])
def test_bisection_finds_the_same_threshold(radius: float) -> None:
    t = draw(1, 100).double().numpy()
    theta = brentq(lambda th: np.maximum(np.abs(t) - th, 0).sum() - radius, 0, np.abs(t).max(), xtol=1e-15)
    expected = np.sign(t) * np.maximum(np.abs(t) - theta, 0)
    ours = project_l1(torch.from_numpy(t).float()[None], radius)[0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("radius", [1.0, 3000.0])
def test_optimality_at_a_million_float32_entries(radius: float) -> None:
    t = draw(2, 1, 1_000_000)
    p = project_l1(t, radius)
    assert p.dtype == torch.float32
    assert p.double().abs().sum().item() == pytest.approx(radius, rel=1e-6)
    moved, kept = (t.double() - p.double()).abs(), p != 0
    theta = moved[kept].max().item()
    assert (theta - moved[kept]).max() < 4e-7, "all that is left was drawn inwards by one threshold"
    assert t[~kept].abs().max() <= theta + 4e-7, "and only what lay below it is zero"
    assert (p * t >= 0).all()


def test_a_million_equal_entries() -> None:
    p = project_l1(torch.full((1, 1_000_000), -1.0), 1.0)
    torch.testing.assert_close(p, torch.full_like(p, -1e-6), rtol=1e-6, atol=0)


def test_each_image_has_its_own_ball_whatever_its_mates() -> None:
    t, radii = draw(3, 4, 3, 8, 8), torch.tensor([0.0, 2.0, 50.0, 1e9])
    together = project_l1(t, radii)
    assert together.shape == t.shape
    for i, radius in enumerate(radii.tolist()):
        assert torch.equal(together[i : i + 1], project_l1(t[i : i + 1], radius))
    assert torch.equal(together.flatten(1).abs().sum(1) > 0, radii > 0)
    assert torch.equal(together[3], t[3])


def test_inside_and_on_the_border_nothing_moves() -> None:
    t = torch.tensor([[0.1, -0.2, 0.3], [0.5, -0.25, 0.25]])
    assert torch.equal(project_l1(t, torch.tensor([1.0, 1.0])), t)


def test_no_gradient_is_recorded() -> None:
    t = draw(4, 2, 5).requires_grad_()
    assert not project_l1(t, 1.0).requires_grad
