"""Steps whose gradients are not finite."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rtil.branches import Part
from rtil.training.checkpoint import checkpoints
from rtil.training.config import config_of
from rtil.training.divergence import MAX_BAD_STEPS, TrainingDivergedError
from rtil.training.module import GANTraining
from rtil.training.run import MODULES, train
from rtil.training.stylegan2 import StyleGAN2Training

BATCH = 8


@pytest.fixture
def faces(tmp_path, make_pictures):
    return make_pictures(tmp_path / "faces", 24, 16)


def after(steps, faces, run, **changes):
    """Train some steps; return the last checkpoint's tensors and its Adams."""
    networks = {"channels": {4: 8, 8: 8, 16: 8}, "z_dim": 16, "w_dim": 16, "mapping_layers": 2, "path_weight": 0}
    clock = {"log_kimg": 0.04, "grid_kimg": 9, "snapshot_kimg": 9, "checkpoint_kimg": 9}
    settings = {"data": str(faces), "resolution": 16, "batch": BATCH, "kimg": steps * BATCH / 1000}
    train(config_of(settings | networks | clock | changes), run)
    state = torch.load(checkpoints(run)[-1], weights_only=True)
    return state["state_dict"], state["optimizer_states"]


def poison(monkeypatch, is_bad):
    """Make the generator's loss nan on the steps for which ``is_bad`` says so."""
    calls = []

    def loss(self, scores, of=StyleGAN2Training.generator_loss):
        calls.append(scores)
        return of(self, scores) * (float("nan") if is_bad(len(calls) - 1) else 1)

    monkeypatch.setattr(StyleGAN2Training, "generator_loss", loss)


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
    log = EventAccumulator(str(tmp_path / "two")).Reload()
    skipped = {tag: [e.value for e in log.Scalars(tag)] for tag in log.Tags()["scalars"] if "skipped" in tag}
    assert skipped.pop("skipped_steps_since_start/generator")[-1] == 1
    assert len(skipped) == 3
    assert all(values[-1] == 0 for values in skipped.values())
    for p, kept in adams[0]["state"].items():
        for name, value in kept.items():
            torch.testing.assert_close(value, adams_before[0]["state"][p][name], rtol=0, atol=0)


def test_a_good_step_forgets_the_bad_ones(faces, tmp_path, monkeypatch):
    poison(monkeypatch, lambda step: step < 2)
    state, adams = after(3, faces, tmp_path / "run")
    assert not state["bad_steps"].any()
    assert {int(kept["step"]) for kept in adams[0]["state"].values()} == {1}


@pytest.mark.parametrize("clock", ["log_kimg", "checkpoint_kimg"])
def test_training_gives_up_after_many_such_steps(clock, faces, tmp_path, monkeypatch):
    """When it next looks, before it writes a checkpoint."""
    poison(monkeypatch, lambda step: step >= 2)
    clocks = {"log_kimg": 9.0, "checkpoint_kimg": 9.0} | {clock: BATCH / 1000}
    message = f"the last {MAX_BAD_STEPS} generator steps were not finite; in a new run try a lower lr"
    with pytest.raises(TrainingDivergedError, match=message):
        after(MAX_BAD_STEPS + 10, faces, tmp_path / "run", **clocks)
    last = int(checkpoints(tmp_path / "run")[-1].stem.split("-")[-1]) if clock == "checkpoint_kimg" else 0
    assert last < BATCH * (MAX_BAD_STEPS + 2)


def test_weights_that_are_not_finite_are_not_kept(faces, tmp_path, monkeypatch):
    """A learning rate that is left in the numbers of float32 by the second step."""

    def adam(self, network, share=1.0):
        return torch.optim.Adam(network.parameters(), 1e30, (0.0, 0.99), fused=True)

    monkeypatch.setattr(GANTraining, "adam", adam)
    with pytest.raises(
        TrainingDivergedError, match=r"weights are not finite, .* the first; in a new run try a lower lr"
    ):
        after(9, faces, tmp_path, log_kimg=9, checkpoint_kimg=BATCH / 1000, snapshot_kimg=2 * BATCH / 1000)
    kept = checkpoints(tmp_path)
    assert kept
    for name, value in torch.load(kept[-1], weights_only=True)["state_dict"].items():
        assert value.isfinite().all(), name
    assert not list(tmp_path.glob("snapshot-*"))


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_phases_are_hooks_called_in_order(arch, monkeypatch):
    networks = {"channels": {4: 8, 8: 8}, "z_dim": 8} | ({"w_dim": 8} if arch == "stylegan2" else {})
    module = MODULES[arch](config_of({"data": "none", "resolution": 8, "arch": arch, "rtil": True} | networks))
    called = []
    seen_by_d = torch.ones(8, 3, 8, 8)
    returned = {"begin_step": seen_by_d, "generator_phase": "fakes", "discriminator_phase": None, "lazy_phases": None}
    for name, value in returned.items():
        monkeypatch.setattr(module, name, lambda *given, name=name, value=value: called.append((name, given)) or value)
    module.step_on(torch.zeros(8, 3, 8, 8))
    assert [name for name, _ in called] == list(returned)
    assert called[2][1] == (seen_by_d, "fakes")
    (part,) = called[1][1][0]
    assert len(part.branch) == 8
    if arch == "pggan":  # D compares the whole batch
        assert len(part.branch.unique()) == 1


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_one_forward_pass_of_the_discriminator_serves_both(arch, fast, monkeypatch):
    """The gradients are those of two separate passes, in both networks."""
    networks = {"channels": {4: 8, 8: 8}, "z_dim": 8} | ({"w_dim": 8} if arch == "stylegan2" else {})
    torch.manual_seed(0)
    module = MODULES[arch](config_of({"data": "none", "resolution": 8, "arch": arch} | networks)).double()
    monkeypatch.setattr(module, "manual_backward", lambda loss, *arguments: loss.backward(*arguments))
    monkeypatch.setattr(module, "dtype_main", torch.float64)
    G, D, rng = module.G, module.D, torch.Generator().manual_seed(1)
    z, noise = G.draw_z(4, rng).double(), [n.double() for n in G.draw_noise(4, rng)]

    def loss_of(scores):
        return scores.square().mean()

    def gradients(network):
        taken = [p.grad for p in network.parameters() if p.grad is not None]
        network.zero_grad(set_to_none=True)
        return taken

    monkeypatch.setattr(module, "generator_loss", loss_of)
    part = Part(torch.zeros(4, dtype=torch.int64), 0.3)
    fakes = module.generator_backward(G(G.mapping(z), noise), part)
    assert not gradients(D)
    ours = gradients(G)
    fakes.scores.sigmoid().sum().backward()
    ours += gradients(D)
    images = G(G.mapping(z), noise)
    assert torch.equal(fakes.images, images)
    (0.3 * loss_of(D(images))).backward()
    theirs = gradients(G)
    gradients(D)
    D(images.detach()).sigmoid().sum().backward()
    theirs += gradients(D)
    assert len(ours) == len(theirs) > 10
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(fakes.generator_loss, 0.3 * loss_of(D(images)).detach())


def test_scores_without_bounds_end_a_training_whose_numbers_are_finite(faces, tmp_path):
    """At 500 times the usual learning rate."""
    told = r"diverged at \S+ kimg: D scores \w+ pictures \S+e\+\d+; in a new run .* a higher r1_gamma \(here 0.5\)"
    with pytest.raises(TrainingDivergedError, match=told):
        after(60, faces, tmp_path, lr=1.0, log_kimg=BATCH / 1000)
