"""Several cuts at once: what moves, under which prior, and that CSGM is what is left without cuts."""

import pytest
import torch

from ilo import CSGM, MultiCut
from ilo.settings import MultiCutSettings
from rtil.errors import UserError
from rtil.inverse.losses import gaussian_penalty
from tests.ilo.conftest import Planted

FREE = {"precision": "float32"}


def test_without_cuts_it_is_csgm(planted: Planted) -> None:
    y = planted.x.clamp(0, 1).sqrt()
    csgm = CSGM(planted.generator, steps=8, geodesic_weight=0, **FREE).invert(y, planted.operator)
    found = MultiCut(planted.generator, steps=8, cuts=0, **FREE).invert(y, planted.operator)
    assert torch.equal(found.x, csgm.x)


def test_all_cuts_move_from_the_start_and_fit_more(planted: Planted) -> None:
    y = planted.x.clamp(0, 1).sqrt()
    errors = []
    for cuts in (0, 1, 3):
        solver = MultiCut(planted.generator, steps=40, cuts=cuts, **FREE)
        found = solver.invert(y, planted.operator)
        assert set(found.latents.z1) == set(range(1, cuts + 1))
        assert all(float(z1.abs().max()) > 0.01 for z1 in found.latents.z1.values())
        assert torch.equal(found.latents.render(planted.generator), found.x)
        errors.append(float(found.score.mean()))
    assert errors[2] < 0.7 * errors[1] < 0.7 * errors[0]
    start = MultiCut(planted.generator, steps=0, cuts=3, **FREE).invert(y, planted.operator, start_from=found.latents)
    assert torch.equal(start.x, found.x)


def test_the_penalty_is_that_of_the_prior_at_every_cut(planted: Planted) -> None:
    settings = MultiCutSettings(steps=6, cuts=2, z1_weight=0.01, z1_sigma=0.5, precision="float32", selection="last")
    y = planted.x.clamp(0, 1).sqrt()
    first = MultiCut(planted.generator, settings).invert(y, planted.operator)
    more = MultiCut(planted.generator, settings.changed(steps=1)).invert(y, planted.operator, start_from=first.latents)
    expected = sum(gaussian_penalty(z1[0]) / 0.25 for z1 in first.latents.z1.values())
    torch.testing.assert_close(more.history["z1"][:, 0], expected)
    loss = more.history["measurement"] + 0.01 * more.history["z1"]
    torch.testing.assert_close(more.history["loss"], loss)


def test_compared_checkpoints_move_the_same_cuts() -> None:
    vanilla, rtil = {"resolution": 32}, {"rtil": True, "resolution": 32, "sigma": 0.5}
    found = [MultiCutSettings().of_checkpoint(info, [vanilla, rtil]) for info in (vanilla, rtil)]
    assert [settings.cuts for settings in found] == [3, 3]
    assert MultiCutSettings().of_checkpoint(vanilla, [vanilla]).cuts == 0
    assert "z1_sigma" not in found[1].to_json()
    assert found[1].changed(z1_weight=1.0).to_json()["z1_sigma"] == 0.5


def test_deeper_cuts_than_there_are_blocks(planted: Planted) -> None:
    with pytest.raises(UserError, match="cuts is 4: valid is at most 3"):
        MultiCut(planted.generator, cuts=4)
