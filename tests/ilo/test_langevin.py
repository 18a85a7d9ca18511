"""Langevin dynamics in a generator: what moves, what comes back, and the prior where nothing is measured."""

import pytest
import torch
from torch import Tensor

from ilo import Langevin
from ilo.langevin import total_deviation
from ilo.settings import LangevinSettings
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.operators import make_operator

SIZE = (3, 16, 16)


@pytest.fixture
def generator() -> StyleGAN2Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleGAN2Generator(16, {4: 8, 8: 8, 16: 8}, z_dim=8, w_dim=8, mapping_layers=2)


def truth(count: int = 2) -> Tensor:
    return torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(0))


def test_samples_are_attempts_and_their_mean_is_returned(generator: StyleGAN2Generator) -> None:
    operator = make_operator("cs", SIZE, rate=0.3)
    y = operator(truth())
    solver = Langevin(generator, steps=20, samples=3, restarts=2, cuts=2, precision="float32")
    found = solver.invert(y, operator)
    assert found.latents.v.shape == (6, 2, generator.num_ws, 8)
    assert set(found.latents.z1) == {1, 2}
    assert torch.equal(found.latents.render(generator), found.x)
    of_samples = found.latents.render_attempts(generator)
    torch.testing.assert_close(found.spread, of_samples.std(0))
    best = Langevin(generator, solver.settings.changed(combination="best")).invert(y, operator)
    assert best.latents.v.shape[0] == 1
    nearest = torch.stack([operator.error(x, y) for x in of_samples]).argmin(0)
    torch.testing.assert_close(best.x, of_samples[nearest, torch.arange(2)])
    assert found.history["measurement"].shape == (2, 20)


def test_the_same_seed_is_the_same_result_in_any_batch(generator: StyleGAN2Generator) -> None:
    operator = make_operator("inpaint", SIZE, rate=0.3)
    y = operator(truth(3))
    settings = LangevinSettings(steps=12, samples=2, cuts=1, precision="float32")
    together = Langevin(generator, settings).invert(y, operator, ["a", "b", "c"]).x
    assert torch.equal(Langevin(generator, settings).invert(y, operator, ["a", "b", "c"]).x, together)
    alone = Langevin(generator, settings).invert(y[2:], operator, ["c"]).x
    torch.testing.assert_close(alone, together[2:], rtol=0, atol=1e-4)
    assert (Langevin(generator, settings, seed=1).invert(y, operator, ["a", "b", "c"]).x - together).abs().max() > 0.01


def test_where_nothing_is_known_the_prior_is_sampled(generator: StyleGAN2Generator) -> None:
    operator = make_operator("cs", SIZE, rate=0.1, noise_sigma=1e3)
    y = operator(truth(4))
    found = Langevin(generator, steps=60, samples=4, cuts=2, z1_sigma=0.5, precision="float32").invert(y, operator)
    for name, deviation in (("v", 1.0), ("noise_3", 1.0), ("z1_1", 0.5), ("z1_2", 0.5)):
        t = found.latents[name]
        assert float(t.std()) == pytest.approx(deviation, rel=0.1), name
        assert abs(float(t.mean())) < 0.15, name


def test_measurements_are_met_up_to_the_misfit(generator: StyleGAN2Generator) -> None:
    with torch.no_grad():
        rng = torch.Generator().manual_seed(3)
        ws = generator.mapping(generator.draw_z(2, rng))
        x = ((generator(ws, generator.draw_noise(2, rng)) + 1) / 2).clamp(0, 1)
    operator = make_operator("cs", SIZE, rate=0.3)
    y = operator(x)
    found = Langevin(generator, steps=300, samples=4, misfit=0.1, precision="float32").invert(y, operator)
    first, last = found.history["measurement"][:, 0], found.history["measurement"][:, -20:].mean(1)
    assert bool((last < 0.5 * first).all())
    assert bool((last < 0.05).all())


def test_cuts_and_sigma_are_those_of_training() -> None:
    settings = LangevinSettings()
    rtil = {"rtil": True, "resolution": 32, "sigma": 0.5, "branches": "additive"}
    assert settings.of_checkpoint(rtil, []).cuts == 3
    assert settings.of_checkpoint(rtil, []).z1_sigma == 0.5
    assert settings.of_checkpoint({"rtil": False, "resolution": 32}, []).cuts == 0
    assert settings.of_checkpoint({"rtil": True, "resolution": 32, "branches": "mixture"}, []).cuts == 0
    assert settings.changed(cuts=1, z1_sigma=2.0).of_checkpoint(rtil, []).to_json() | {"cuts": 1, "z1_sigma": 2.0} == (
        settings.changed(cuts=1, z1_sigma=2.0).to_json()
    )


def test_samples_are_taken_behind_annealing() -> None:
    assert LangevinSettings(steps=100, samples=3).kept_steps() == [80, 90, 100]
    assert LangevinSettings(steps=2, samples=8).kept_steps() == [2]
    assert LangevinSettings(steps=1).kept_steps() == [1]


def test_the_noise_of_measurements_counts() -> None:
    quiet, noisy = (make_operator("inpaint", SIZE, rate=0.5, noise_sigma=s) for s in (0.0, 0.1))
    assert total_deviation(0.06, quiet) == pytest.approx(0.06)
    assert total_deviation(0.06, noisy) == pytest.approx((0.06**2 + 4 * 0.1**2) ** 0.5, rel=1e-6)


def test_deeper_cuts_than_there_are_blocks(generator: StyleGAN2Generator) -> None:
    with pytest.raises(UserError, match="cuts is 4: valid is at most 3"):
        Langevin(generator, cuts=4)
