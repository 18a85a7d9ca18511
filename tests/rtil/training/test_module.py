"""Steps whose gradients are not finite."""

import pytest
import torch

from rtil.training import stylegan2
from rtil.training.checkpoint import checkpoints
from rtil.training.config import config_of
from rtil.training.module import MAX_BAD_STEPS, TrainingDivergedError
from rtil.training.run import train

BATCH = 8


@pytest.fixture
def faces(tmp_path, make_pictures):
    return make_pictures(tmp_path / "faces", 24, 16)


def after(steps, faces, run):
    """Train some steps; return the last checkpoint's tensors and its Adams."""
    networks = {"channels": {4: 8, 8: 8, 16: 8}, "z_dim": 16, "w_dim": 16, "mapping_layers": 2, "path_weight": 0}
    clock = {"log_kimg": 0.04, "grid_kimg": 9, "snapshot_kimg": 9, "checkpoint_kimg": 9}
    settings = {"data": str(faces), "resolution": 16, "batch": BATCH, "kimg": steps * BATCH / 1000}
    train(config_of(settings | networks | clock), run)
    state = torch.load(checkpoints(run)[-1], weights_only=True)
    return state["state_dict"], state["optimizer_states"]


def poison(monkeypatch, is_bad):
    """Make the generator's loss nan on the steps for which ``is_bad`` says so."""
    calls = []

    def loss(scores, of=stylegan2.generator_loss):
        calls.append(scores)
        return of(scores) * (float("nan") if is_bad(len(calls) - 1) else 1)

    monkeypatch.setattr(stylegan2, "generator_loss", loss)


def test_a_step_that_is_not_finite_is_skipped(faces, tmp_path, monkeypatch):
    before, adams_before = after(1, faces, tmp_path / "one")
    poison(monkeypatch, lambda step: step == 1)
    state, adams = after(2, faces, tmp_path / "two")
    buffers = ("G.w_mean",)
    for name, value in state.items():
        if name.startswith("G.") and name not in buffers:
            assert torch.equal(value, before[name]), name
    assert not torch.equal(state["D.out.weight"], before["D.out.weight"])
    assert state["bad_steps"].tolist() == [1, 0, 0, 0]
    for p, kept in adams[0]["state"].items():
        for name, value in kept.items():
            torch.testing.assert_close(value, adams_before[0]["state"][p][name], rtol=0, atol=0)


def test_a_good_step_forgets_the_bad_ones(faces, tmp_path, monkeypatch):
    poison(monkeypatch, lambda step: step < 2)
    state, adams = after(3, faces, tmp_path / "run")
    assert not state["bad_steps"].any()
    assert {int(kept["step"]) for kept in adams[0]["state"].values()} == {1}


def test_training_gives_up_after_many_such_steps(faces, tmp_path, monkeypatch):
    poison(monkeypatch, lambda step: step >= 2)
    with pytest.raises(TrainingDivergedError, match=r"the last \d+ generator steps were not finite: lower lr"):
        after(MAX_BAD_STEPS + 10, faces, tmp_path / "run")
