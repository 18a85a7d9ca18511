import csv

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rtil.errors import Notice, UserError
from rtil.quality import features, measure
from rtil.ranges import uint8_to_signed
from rtil.training import quality
from rtil.training.config import config_of
from rtil.training.run import MODULES, train


@pytest.fixture
def faces(tmp_path, make_pictures):
    return make_pictures(tmp_path / "faces", 24, 16)


def config(faces, kimg, **changes):
    clock = {"log_kimg": 0.04, "grid_kimg": 1, "snapshot_kimg": 1, "checkpoint_kimg": 0.04, "quality_kimg": 0.04}
    small = {"channels": {4: 8, 8: 8, 16: 8}, "z_dim": 16}
    small |= {"batches": {4: 8, 8: 8, 16: 8}} if changes.get("arch") == "pggan" else {"w_dim": 16, "batch": 8}
    return config_of({"data": str(faces), "resolution": 16, "kimg": kimg, "rtil": True} | small | clock | changes)


def rows(run):
    with (run / quality.FILE).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_a_resumed_run_tells_the_same_quality_and_no_time_twice(random_backbone, faces, tmp_path, arch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    changes = {"arch": arch} | ({"stages": {4: 0.04, 8: 0.04, 16: 0.04}, "codes": [1, 3]} if arch == "pggan" else {})
    train(config(faces, 0.12, **changes), whole)
    train(config(faces, 0.12, **changes), parts)
    kept = rows(parts)
    with (parts / quality.FILE).open("a") as file:
        file.write("0.200,branch 0,0,0,0,0,0,0,0\n")  # of a part that the run goes over again
    checkpoint = max(parts.glob("*.ckpt"))
    checkpoint.unlink()
    train(config(faces, 0.12, **changes), parts, resume="latest")
    assert rows(parts) == kept == rows(whole)
    branches = ["branch 0", "branch 1", *(["branch 2"] if arch == "stylegan2" else []), "reals"]
    assert [row["of"] for row in kept] == branches * 3
    assert sorted({row["kimg"] for row in kept}) == ["0.040", "0.080", "0.120"]
    curves = EventAccumulator(str(whole)).Reload()
    told = [event.value for event in curves.Scalars("quality/frechet/branch 1")]
    assert told == pytest.approx([float(row["frechet"]) for row in kept if row["of"] == "branch 1"], rel=1e-5)


def test_scores_are_those_of_d_on_the_pictures(faces):
    module = MODULES["stylegan2"](config(faces, 0.04))
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        expected = module.D(uint8_to_signed(images[:32])).mean()  # whole batches alone: D compares pictures of a batch
    assert quality.mean_score(module, images) == pytest.approx(float(expected), abs=1e-5)


def test_collapse_is_told(random_backbone, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "COLLAPSED_SPREAD", 1e9)
    with pytest.warns(Notice, match="may collapse"):
        train(config(faces, 0.04, rtil=False), tmp_path / "run")


def test_missing_weights_are_told_before_the_training(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "load_lpips", lambda net: None)
    with pytest.raises(UserError, match="rtil weights lpips"):
        train(config(faces, 0.04), tmp_path / "run")
