"""Trainers of a user's own, with nothing of ours but module and data."""

import csv

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from ilo import ILO
from rtil.data.batches import FacesDataModule
from rtil.errors import UserError
from rtil.inverse.operators import Downsampling
from rtil.quality import features
from rtil.training import quality
from rtil.training.checkpoint import checkpoints
from rtil.training.pggan import PGGANTraining
from rtil.training.run import MODULES, train
from rtil.training.stylegan2 import StyleGAN2Training
from tests.rtil.training.small import config


@pytest.fixture
def faces(tmp_path, make_pictures):
    return make_pictures(tmp_path / "faces", 24, 16)


@pytest.fixture
def quick_ilo(monkeypatch):
    """Two rounds of two steps."""
    usual = ILO.__init__

    def init(self, *given, **fields):
        usual(self, *given, steps=(2, 2), perceptual="none", **fields)

    monkeypatch.setattr(ILO, "__init__", init)


def data_of(settings):
    return FacesDataModule(settings.data, settings.resolution, settings.batch_at, settings.seed, settings.mirror)


def trainer(folder, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0}
    return pl.Trainer(accelerator="cpu", devices=1, max_epochs=-1, default_root_dir=folder, **quiet | options)


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_it_trains_the_same_stops_at_the_end_and_counts_images(faces, tmp_path, arch):
    settings = config(faces, 0.08, arch=arch)
    train(settings, tmp_path / "ours")
    module, logger = MODULES[arch](settings), CSVLogger(tmp_path, name="log", version="")
    trainer(tmp_path, logger=logger, log_every_n_steps=4).fit(module, datamodule=data_of(settings))
    ours = torch.load(checkpoints(tmp_path / "ours")[-1], weights_only=True)["state_dict"]
    theirs = module.state_dict()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    with (tmp_path / "log/metrics.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert [row["step"] for row in told] == ["32", "64", "80"]
    assert float(told[-1]["loss/generator"]) == pytest.approx(float(module.stats["loss/generator"]))


def test_it_goes_on_from_lightnings_checkpoint_as_if_uninterrupted(faces, tmp_path):
    whole = StyleGAN2Training(config(faces, 0.08))
    trainer(tmp_path / "whole", logger=False).fit(whole, datamodule=data_of(whole.config))
    first = StyleGAN2Training(config(faces, 0.04))
    keep = ModelCheckpoint(tmp_path / "kept", save_last=True)
    trainer(tmp_path / "first", logger=False, callbacks=[keep]).fit(first, datamodule=data_of(first.config))
    second = StyleGAN2Training(config(faces, 0.08))
    trainer(tmp_path / "second", logger=False).fit(
        second, datamodule=data_of(second.config), ckpt_path=keep.last_model_path, weights_only=True
    )
    a, b = whole.state_dict(), second.state_dict()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert second.seen == 80


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_a_checkpoint_loads_without_anything_else(faces, tmp_path, arch):
    """Of a PGGAN while 8 px fade in."""
    growing = {"stages": {4: 0.04, 8: 0.1, 16: 0.04}} if arch == "pggan" else {}
    settings = config(faces, 0.18, arch=arch, **growing)
    kept = {}

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            if module.seen == 80:
                trainer.should_stop = True
                kept.update(ema=module.G_ema, blocks=module.G_ema.num_blocks, fade=getattr(module.G_ema, "fade", None))

    train(settings, tmp_path / "run", callbacks=[Stop()])
    module = MODULES[arch].load_from_checkpoint(checkpoints(tmp_path / "run")[-1])
    assert module.config == settings
    assert module.seen == 80
    assert (module.G_ema.num_blocks, getattr(module.G_ema, "fade", None)) == (kept["blocks"], kept["fade"])
    z, rng = kept["ema"].draw_z(2, torch.Generator().manual_seed(0)), torch.Generator()
    noise = kept["ema"].draw_noise(2, rng)
    with torch.no_grad():
        pictures = [G(G.mapping(z), noise) for G in (kept["ema"], module.G_ema)]
    assert torch.equal(*pictures)


def test_settings_change_where_asked(faces, tmp_path):
    train(config(faces, 0.04), tmp_path)
    module = StyleGAN2Training.load_from_checkpoint(str(checkpoints(tmp_path)[0]), kimg=0.08)
    assert (module.config.kimg, module.total_images, module.is_done) == (0.08, 80, False)


def test_a_checkpoint_of_another_architecture_or_nothing_of_ours_is_refused(faces, tmp_path):
    train(config(faces, 0.04), tmp_path)
    with pytest.raises(UserError, match="is of a stylegan2 training: PGGANTraining trains pggan"):
        PGGANTraining.load_from_checkpoint(checkpoints(tmp_path)[0])
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="not one of a training"):
        StyleGAN2Training.load_from_checkpoint(tmp_path / "other.ckpt")


def test_loading_runs_no_code_of_the_checkpoint(tmp_path):
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return canary.touch, ()

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(UserError, match="not ours"):
        StyleGAN2Training.load_from_checkpoint(tmp_path / "bomb.ckpt")
    assert not canary.exists()


def test_validate_is_the_quality_that_a_training_measures(random_backbone, faces, tmp_path):
    settings = config(faces, 0.04, quality_kimg=0.04)
    train(settings, tmp_path / "run")
    with (tmp_path / "run" / quality.FILE).open(newline="") as file:
        expected = {
            f"quality/{name}/{row['of']}": float(row[name])
            for row in csv.DictReader(file)
            for name in ("frechet", "kernel", "precision", "recall", "spread")
        }
    module = StyleGAN2Training.load_from_checkpoint(checkpoints(tmp_path / "run")[0])
    options = {"logger": CSVLogger(tmp_path, "log", ""), "limit_val_batches": 1.0}
    (told,) = trainer(tmp_path, **options).validate(module, datamodule=data_of(settings), verbose=False)
    assert told.pop("step") == 40
    assert told == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert {name.split("/")[2] for name in told} == {"branch 0", "branch 1", "branch 2", "reals"}


def test_validation_inside_a_training_changes_nothing(random_backbone, faces, tmp_path):
    settings, trained = config(faces, 0.08), []
    for often in ({}, {"limit_val_batches": 1.0, "val_check_interval": 4, "num_sanity_val_steps": 1}):
        module = StyleGAN2Training(settings)
        trainer(tmp_path, logger=False, **often).fit(module, datamodule=data_of(settings))
        trained.append(module.state_dict())
    assert [name for name in trained[0] if not torch.equal(trained[0][name], trained[1][name])] == []


def test_what_measuring_needs_is_told_before_the_training(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "load_lpips", lambda net: None)
    module = StyleGAN2Training(config(faces, 0.04))
    with pytest.raises(UserError, match="rtil weights lpips"):
        trainer(tmp_path, logger=False, limit_val_batches=1.0).fit(module, datamodule=data_of(module.config))
    assert module.seen == 0


def test_predict_is_ilo_on_every_picture_whatever_the_batches(quick_ilo, faces, tmp_path):
    module = StyleGAN2Training(config(faces, 0.04))
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    operator = Downsampling((3, 16, 16), 2)
    y = operator.A(x)
    expected = ILO(module.G_ema, seed=module.config.seed).invert(y, operator).x
    for size in (4, 2):
        batches = [(y[first : first + size], operator) for first in range(0, 4, size)]
        found = trainer(tmp_path, logger=False).predict(module, DataLoader(batches, batch_size=None))
        torch.testing.assert_close(torch.cat([inversion.x for inversion in found]), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_predict_inverts_whole_pictures(quick_ilo, faces, tmp_path, arch):
    module = MODULES[arch](config(faces, 0.04, arch=arch))
    module.G_ema.grow() if arch == "pggan" else None
    pictures = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    found = trainer(tmp_path, logger=False).predict(module, DataLoader(pictures, batch_size=2))
    again = trainer(tmp_path, logger=False).predict(module, DataLoader(pictures.float() / 255, batch_size=2))
    assert [tuple(inversion.x.shape) for inversion in found] == [(2, 3, 16, 16), (1, 3, 16, 16)]
    assert all(torch.equal(a.x, b.x) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16-true", "64-true"])
def test_another_precision_is_refused(faces, tmp_path, precision):
    module = StyleGAN2Training(config(faces, 0.04))
    refused = "bf16-mixed" if precision == "16-mixed" else precision  # what Lightning makes of it on a CPU
    with pytest.raises(UserError, match=f"precision='{refused}'.* set precision='bfloat16'"):
        trainer(tmp_path, logger=False, precision=precision).fit(module, datamodule=data_of(module.config))


@pytest.mark.parametrize("options", [{"accumulate_grad_batches": 2}, {"gradient_clip_val": 1.0}], ids=str)
def test_lightning_refuses_what_manual_steps_cannot_have(faces, tmp_path, options):
    module = StyleGAN2Training(config(faces, 0.04))
    with pytest.raises(MisconfigurationException, match="manual optimization"):
        trainer(tmp_path, logger=False, **options).fit(module, datamodule=data_of(module.config))
    assert module.seen == 0
