import inspect
from dataclasses import fields

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, ModelSummary

from rtil.errors import UserError
from rtil.runs import newest_snapshot
from rtil.snapshot import load_snapshot
from rtil.training.checkpoint import checkpoints
from rtil.training.run import train
from rtil.training.stylegan2 import StyleGAN2Training
from rtil.training.trainer_options import TrainerOptions
from tests.rtil.training.small import config


@pytest.fixture
def faces(tmp_path, make_pictures):
    return make_pictures(tmp_path / "faces", 24, 16)


class StopAt(pl.Callback):
    """Stops a training as a user's callback would."""

    def __init__(self, images):
        self.images = images

    def on_train_batch_end(self, trainer, module, *_):
        if module.seen >= self.images:
            trainer.should_stop = True


def test_every_option_of_the_trainer_is_passed_on_or_told_what_stands_for_it():
    ours = [field.name for field in fields(TrainerOptions)]
    theirs = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert {*ours, *TrainerOptions.ELSEWHERE} == theirs
    assert not {*ours} & {*TrainerOptions.ELSEWHERE}


def test_options_change_nothing_of_what_is_trained(faces, tmp_path):
    plain = tmp_path / "plain"
    train(config(faces, 0.04), plain)
    watched = tmp_path / "watched"
    options = TrainerOptions(profiler="simple", detect_anomaly=True, max_time="01:00:00:00", deterministic=True)
    try:
        train(config(faces, 0.04), watched, extra=options, callbacks=[ModelSummary()])
    finally:
        torch.use_deterministic_algorithms(False)
    a, b = (torch.load(checkpoints(run)[-1], weights_only=True)["state_dict"] for run in (plain, watched))
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert "run_training_batch" in (watched / "fit-profile.txt").read_text()


def test_what_a_callback_stops_is_kept_and_goes_on(faces, tmp_path):
    assert not train(config(faces, 0.08), tmp_path, callbacks=[StopAt(24)])
    assert [path.stem for path in checkpoints(tmp_path)] == ["checkpoint-00000000024"]
    assert newest_snapshot(tmp_path)
    assert train(config(faces, 0.08), tmp_path, resume="latest")


def test_what_the_time_ends_is_kept_and_goes_on(faces, tmp_path):
    assert not train(config(faces, 1000), tmp_path, extra=TrainerOptions(max_time="00:00:00:01"))
    seen = int(torch.load(checkpoints(tmp_path)[-1], weights_only=True)["state_dict"]["images_seen"])
    assert load_snapshot(tmp_path).info["kimg"] == seen / 1000 > 0
    assert train(config(faces, (seen + 8) / 1000), tmp_path, resume="latest")


def test_a_stop_at_the_moment_of_a_checkpoint_counts(faces, tmp_path):
    assert not train(config(faces, 0.12), tmp_path, callbacks=[StopAt(40)])
    assert [path.stem for path in checkpoints(tmp_path)] == ["checkpoint-00000000040"]


def test_lightnings_own_checkpoints_may_be_kept_besides(faces, tmp_path):
    keep = ModelCheckpoint(tmp_path / "best", monitor="loss/generator", every_n_train_steps=1, save_top_k=1)
    train(config(faces, 0.08), tmp_path / "run", callbacks=[keep])
    module = StyleGAN2Training.load_from_checkpoint(keep.best_model_path)
    assert 40 <= module.seen <= 80


@pytest.mark.parametrize("time", ["3 h", "1:00", "00:00:00:0x"])
def test_a_time_that_is_none_is_refused(time):
    with pytest.raises(UserError, match="DD:HH:MM:SS"):
        TrainerOptions(max_time=time)
