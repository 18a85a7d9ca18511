"""Fusion against least squares written out, and against what must not change."""

import pytest
import torch
from torch import Tensor

from rtil.evaluation import linear_prior
from rtil.evaluation.fusion import Fusion, bands, fit_fusion
from rtil.evaluation.linear_prior import LinearPrior
from rtil.inverse.operators import make_operator
from tests.rtil.evaluation.test_linear_prior import smooth_pictures

SIZE = (3, 8, 8)


def rms(x: Tensor, truth: Tensor) -> float:
    return float((x - truth).square().mean().sqrt())


@pytest.fixture
def prior() -> LinearPrior:
    return LinearPrior.fit(smooth_pictures(600))


def test_bands_cover_all_directions_once() -> None:
    assert bands(torch.empty(192, 192)) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 192]
    assert bands(torch.empty(192, 8)) == [0, 1, 2, 4, 8, 192]
    assert bands(torch.empty(4, 1)) == [0, 1, 4]


def test_weights_are_those_of_least_squares(prior: LinearPrior) -> None:
    rng = torch.Generator().manual_seed(0)
    truth, linear, found = torch.rand(3, 40, *SIZE, generator=rng, dtype=torch.float64)
    found = 0.6 * found + 0.4 * truth
    axes = prior.axes
    fusion = Fusion.fit(axes, linear, found, truth)
    columns = []
    for first, last in zip(bands(axes)[:-1], bands(axes)[1:], strict=True):
        P = axes[:, first:last] @ axes[:, first:last].T
        columns.append(((found - linear).flatten(1) @ P).flatten())
    expected = torch.linalg.lstsq(torch.stack(columns, 1), (truth - linear).flatten()[:, None]).solution[:, 0]
    torch.testing.assert_close(fusion.weights, expected.clamp(0, 1))
    mixed = linear.flatten() + torch.stack(columns, 1) @ fusion.weights
    torch.testing.assert_close(fusion(linear, found).flatten(), mixed)


@pytest.mark.parametrize("most", [192, 8])
def test_weights_of_0_and_1_are_the_linear_prior_and_the_solver(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(linear_prior, "FULL_UNKNOWNS", most - 1 if most < 192 else 192)
    monkeypatch.setattr(linear_prior, "MOST_COMPONENTS", most)
    axes = LinearPrior.fit(smooth_pictures(300)).axes
    linear, found = torch.rand(2, 5, *SIZE, generator=torch.Generator().manual_seed(1))
    count = len(bands(axes)) - 1
    assert torch.equal(Fusion(axes, torch.zeros(count, dtype=torch.float64))(linear, found), linear)
    torch.testing.assert_close(Fusion(axes, torch.ones(count, dtype=torch.float64))(linear, found), found)


def test_a_constant_in_place_of_a_solver_adds_nothing(prior: LinearPrior) -> None:
    operator = make_operator("cs", SIZE, rate=0.1)
    truth = smooth_pictures(400, seed=1).float() / 255
    fusion = fit_fusion(prior, prior.axes, operator, truth, operator(truth), lambda y: torch.full((len(y), *SIZE), 0.5))
    held_out = smooth_pictures(200, seed=2).float() / 255
    y = operator(held_out)
    linear = prior.condition(operator)(y)
    fused = fusion(linear, torch.full_like(linear, 0.5))
    assert float(fusion.weights[:6].max()) < 0.1, "further bands hold rounding errors of bytes"
    assert abs(rms(fused, held_out) / rms(linear, held_out) - 1) < 0.01


def test_what_a_solver_knows_in_addition_is_taken(prior: LinearPrior) -> None:
    operator = make_operator("cs", SIZE, rate=0.05)
    rng = torch.Generator().manual_seed(3)

    def knows(truth: Tensor) -> Tensor:
        return truth + 0.08 * torch.randn(truth.shape, generator=rng)

    truth = smooth_pictures(200, seed=1).float() / 255
    fusion = fit_fusion(prior, prior.axes, operator, truth, operator(truth), lambda y: knows(truth))
    held_out = smooth_pictures(100, seed=2).float() / 255
    linear, found = prior.condition(operator)(operator(held_out)), knows(held_out)
    assert rms(fusion(linear, found), held_out) < 0.8 * min(rms(linear, held_out), rms(found, held_out))
