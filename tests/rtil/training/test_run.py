import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rtil.errors import UserError
from rtil.snapshot import load_snapshot
from rtil.training.callbacks import Log
from rtil.training.checkpoint import AtomicCheckpointIO, checkpoints, resume_point
from rtil.training.config import config_of
from rtil.training.run import MODULES, train


@pytest.fixture
def faces(tmp_path, make_pictures):
    return make_pictures(tmp_path / "faces", 24, 16)


def config(faces, kimg, **changes):
    small = {"channels": {4: 8, 8: 8, 16: 8}, "z_dim": 16}
    clock = {"log_kimg": 0.04, "grid_kimg": 0.08, "snapshot_kimg": 0.08, "checkpoint_kimg": 0.04}
    if changes.get("arch") == "pggan":
        small |= {"batches": {4: 16, 8: 8, 16: 8}, "codes": [1, 3]}
    else:
        small |= {"mapping_layers": 2, "w_dim": 16, "batch": 8, "path_weight": 2.0, "style_mixing": 0.9}
    return config_of({"data": str(faces), "resolution": 16, "kimg": kimg, "rtil": True} | small | clock | changes)


@contextmanager
def stopped_at(images_seen):
    """Ask every run inside to stop after so many images, as Ctrl-C would; None lets it run to its end."""

    asked = []

    def due(self, module, before=Log.is_due):
        if images_seen is not None and module.seen >= images_seen and not asked:
            asked.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return before(self, module)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Log, "is_due", due)
        yield


def tensors(checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    adam = {
        f"adam{i}.{p}.{name}": torch.as_tensor(value)
        for i, optimiser in enumerate(state["optimizer_states"])
        for p, values in optimiser["state"].items()
        for name, value in values.items()
    }
    return state["state_dict"] | adam


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rtil": False},
        {"estimator": "all", "precision": "bfloat16"},
        {"branches": "mixture", "codes": [1, 3]},
    ],
    ids=str,
)
def test_resume_equals_uninterrupted(faces, tmp_path, changes):
    """23 steps (R1 at 0 and 16, path length at 0, 8, 16) against 10, then 13 more."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config(faces, 0.184, **changes), whole)
    train(config(faces, 0.08, **changes), parts)
    train(config(faces, 0.184, **changes), parts, resume="latest")
    a, b = (tensors(checkpoints(run)[-1]) for run in (whole, parts))
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert int(a["images_seen"]) == 184


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rtil": False, "reset_adam": True, "fade_reals": True},
        {"estimator": "all", "precision": "bfloat16"},
        {"branches": "additive"},
    ],
    ids=str,
)
def test_a_growing_run_resumes_in_the_middle_of_a_fade(faces, tmp_path, changes):
    """Stages of 32, 48 and 96 images; stopped at 56 (8 px half faded in) and at 96 (16 px a third)."""
    settings = {"arch": "pggan", "stages": {4: 0.032, 8: 0.048, 16: 0.096}, "checkpoint_kimg": 0.008} | changes
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config(faces, 0.176, **settings), whole)
    for stop in (56, 96, None):
        module_config = config(faces, 0.176, **settings)
        with stopped_at(stop):
            train(module_config, parts, resume="latest")
    a, b = (tensors(checkpoints(run)[-1]) for run in (whole, parts))
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert int(a["images_seen"]) == 176


def test_convolutions_are_set_for_the_device_and_type_of_the_training(faces, tmp_path, monkeypatch):
    told = []

    @contextmanager
    def convolutions(device, dtype):
        told.append((str(device), dtype))
        yield
        told.append(checkpoints(tmp_path) != [])

    monkeypatch.setattr("rtil.training.run.training_convolutions", convolutions)
    train(config(faces, 0.008, device="cpu", precision="bfloat16"), tmp_path)
    assert told == [("cpu", torch.bfloat16), True]


@pytest.mark.parametrize("changes", [{}, {"arch": "pggan"}], ids=["stylegan2", "pggan"])
def test_training_moves_every_weight_and_writes_what_users_look_for(faces, tmp_path, changes):
    run = tmp_path / "run"
    train(config(faces, 0.08, **changes), run)
    names = {path.name.split(".")[0].rstrip("0123456789-") for path in run.iterdir()}
    assert names == {"reals", "fakes", "snapshot", "checkpoint", "events"}
    curves = EventAccumulator(str(run)).Reload()
    assert [event.step for event in curves.Scalars("loss/generator")] == [40, 80]  # images
    assert set(curves.Tags()["images"]) == {"reals", "fakes, one row per branch"}
    with Image.open(sorted(run.glob("fakes-*.png"))[-1]) as grid:
        assert grid.size == (8 * 16, (2 if changes else 3) * 16)  # one row per branch
    snapshot = load_snapshot(run)
    assert snapshot.info["rtil"] is True
    assert snapshot.info["kimg"] == pytest.approx(0.08)
    state = tensors(checkpoints(run)[-1])
    for name in [n for n in state if n.startswith("G.blocks.2.conv") and n.endswith("weight")]:
        assert not torch.equal(state[name], state[f"G_ema{name[1:]}"]), name
    assert not state["bad_steps"].any()
    start = MODULES[snapshot.info["arch"]](config(faces, 0.08, **changes)).state_dict()
    for name, value in state.items():
        if name.startswith(("G.", "D.")):
            assert not torch.equal(value, start[name]), name


@pytest.mark.parametrize("changes", [{"arch": "pggan"}, {"rtil": False}, {"seed": 1}], ids=str)
def test_a_checkpoint_of_other_settings_is_refused(faces, tmp_path, changes):
    theirs = tmp_path / "theirs"
    train(config(faces, 0.04, **changes), theirs)
    with pytest.raises(UserError, match=rf"is of a run with {next(iter(changes))}|is of a run with b"):
        train(config(faces, 0.08), tmp_path / "ours", resume=str(checkpoints(theirs)[-1]))


@pytest.mark.parametrize("reset", [True, False])
def test_adam_forgets_at_a_new_stage_if_asked_to(faces, tmp_path, reset):
    """8 px begin at image 32: 4 steps of 8 images until the end, after 2 of 16. Stopped right at the boundary."""
    run = tmp_path / "run"
    settings = {"arch": "pggan", "stages": {4: 0.032, 8: 0.032, 16: 0.008}, "checkpoint_kimg": 0.008}
    for stop in (32, 64):
        with stopped_at(stop):
            train(config(faces, 0.072, reset_adam=reset, **settings), run, resume="latest")
    state = torch.load(checkpoints(run)[-1], weights_only=True)
    assert int(state["state_dict"]["images_seen"]) == 64
    steps = {int(values["step"]) for values in state["optimizer_states"][0]["state"].values()}
    assert max(steps) == (4 if reset else 6)


def test_killed_at_any_moment_leaves_a_checkpoint_to_resume(faces, tmp_path):
    run = tmp_path / "run"
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from rtil.training.run import train\n"
        "from rtil.training.config import config_of\n"
        f"train(config_of({config(faces, 100).to_json()!r}), Path({str(run)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(checkpoints(run)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = int(torch.load(resume_point(run, "latest"), weights_only=True)["state_dict"]["images_seen"])
    train(config(faces, (seen + 16) / 1000), run, resume="latest")
    assert int(tensors(checkpoints(run)[-1])["images_seen"]) == seen + 16


def test_going_on_from_an_older_checkpoint_leaves_the_course_behind_it(faces, tmp_path):
    """Checkpoints at 40, 48 (other course), then 40, 44, from which ``latest`` goes on."""
    clocks = {"checkpoint_kimg": 0.04, "batch": 4}
    train(config(faces, 0.048, **clocks), tmp_path)
    older, left = checkpoints(tmp_path)
    with stopped_at(44):
        train(config(faces, 0.06, **clocks), tmp_path, resume=str(older))
    assert not left.exists()
    assert [path.stem for path in checkpoints(tmp_path)] == ["checkpoint-00000000040", "checkpoint-00000000044"]
    assert resume_point(tmp_path, "latest") == checkpoints(tmp_path)[-1]


def test_the_course_left_is_there_until_the_new_one_has_a_checkpoint(faces, tmp_path, monkeypatch):
    train(config(faces, 0.08), tmp_path)
    before = {path: path.read_bytes() for path in checkpoints(tmp_path)}
    older = next(iter(before))

    def full(self, checkpoint, path, storage_options=None):
        raise OSError("no space left")

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
    with pytest.raises(OSError, match="no space"):
        train(config(faces, 0.12), tmp_path, resume=str(older))
    assert {path: path.read_bytes() for path in checkpoints(tmp_path)} == before


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return (canary.touch, ())

    torch.save({"state_dict": Bomb()}, tmp_path / "checkpoint-00000000001.ckpt")
    with pytest.raises(UserError, match="corrupt or not ours"):
        resume_point(tmp_path, "latest")
    assert not canary.exists()


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "checkpoint-00000000001.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"a": torch.zeros(1)}, path)
    before = path.read_bytes()
    with pytest.raises((AttributeError, TypeError)):
        io.save_checkpoint({"a": lambda: None}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_to_resume(tmp_path):
    assert resume_point(tmp_path, "latest") is None
    with pytest.raises(UserError, match="nothing to resume"):
        resume_point(tmp_path, str(tmp_path / "checkpoint.ckpt"))
