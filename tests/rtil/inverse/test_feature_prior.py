"""The Gaussian of a generator's features against moments of other draws, and in Langevin dynamics."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ilo import Langevin
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.feature_prior import colour, feature_factor, whiten
from rtil.inverse.operators import make_operator


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def generator() -> StyleGAN2Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleGAN2Generator(16, {4: 4, 8: 8, 16: 8}, z_dim=8, w_dim=8, mapping_layers=2)


@torch.no_grad()
def features(generator: StyleGAN2Generator, cut: int, count: int = 3000) -> Tensor:
    rng = torch.Generator().manual_seed(7)
    ws = generator.mapping(generator.draw_z(count, rng))
    return generator.head(ws, generator.draw_noise(count, rng), cut).feature


def test_factors_are_those_of_the_features_moments(generator: StyleGAN2Generator) -> None:
    feature = features(generator, 1)
    full, channel = (feature_factor(generator, 1, kind) for kind in ("full", "channel"))  # type: ignore[arg-type]
    covariance = torch.cov(feature.flatten(1).T)
    assert full.shape == (64, 64)
    assert (full @ full.T - covariance).norm() < 0.15 * covariance.norm()
    centred = feature - feature.mean(0)
    torch.testing.assert_close(channel, centred.square().mean((0, 2, 3)).sqrt(), rtol=0.05, atol=1e-3)


def test_what_does_not_fit_is_by_channel_and_all_is_cached(
    generator: StyleGAN2Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtil.inverse.feature_prior.FULL_ENTRIES", 63)
    first = feature_factor(generator, 1, "full")
    assert first.shape == (4,)
    monkeypatch.setattr("rtil.inverse.feature_prior._fit", None)
    assert torch.equal(feature_factor(generator, 1, "channel"), first)


def test_whitening_undoes_colouring(generator: StyleGAN2Generator) -> None:
    white = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for kind in ("full", "channel"):
        factor = feature_factor(generator, 1, kind)  # type: ignore[arg-type]
        torch.testing.assert_close(whiten(factor, colour(factor, white)), white, rtol=1e-3, atol=1e-3)


def test_where_nothing_is_known_deviations_vary_as_features_do(generator: StyleGAN2Generator) -> None:
    operator = make_operator("cs", (3, 16, 16), rate=0.1, noise_sigma=1e3)
    y = operator(torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    solver = Langevin(generator, steps=60, samples=4, cuts=1, z1_prior="full", z1_sigma=0.5, precision="float32")
    found = solver.invert(y, operator)
    z1 = found.latents.z1[1].flatten(0, 1).flatten(1)
    factor = feature_factor(generator, 1, "full")
    expected = (factor @ factor.T).diagonal().sum() * 0.25
    assert float(z1.square().sum(1).mean()) == pytest.approx(float(expected), rel=0.25)
    torch.testing.assert_close(found.latents.render(generator), found.x)
    start = Langevin(generator, solver.settings.changed(steps=1)).invert(y, operator, start_from=found.latents)
    assert bool(start.x.isfinite().all())


def test_without_cuts_it_says_nothing(generator: StyleGAN2Generator) -> None:
    with pytest.raises(UserError, match="z1_prior 'full' but no deviation moves: give cuts"):
        Langevin(generator, z1_prior="full")
