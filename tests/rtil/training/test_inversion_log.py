import csv

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ilo import ILO
from rtil.data import open_dataset
from rtil.inverse.operators import PartialCirculant
from rtil.snapshot import load_snapshot
from rtil.training import inversion_log
from rtil.training.checkpoint import checkpoints
from rtil.training.config import config_of
from rtil.training.run import train


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(inversion_log, "STEPS", (3, 2, 2, 2))


@pytest.fixture
def faces(tmp_path, make_pictures):
    return make_pictures(tmp_path / "faces", 60, 16)


def config(faces, **changes):
    clock = {"log_kimg": 0.04, "grid_kimg": 1, "snapshot_kimg": 1, "checkpoint_kimg": 0.04, "study_kimg": 0.04}
    small = {"channels": {4: 8, 8: 8, 16: 8}, "z_dim": 16, "kimg": 0.08, "rtil": True}
    small |= {"batches": {4: 8, 8: 8, 16: 8}} if changes.get("arch") == "pggan" else {"w_dim": 16, "batch": 8}
    return config_of({"data": str(faces), "resolution": 16} | small | clock | changes)


def rows(run):
    with (run / inversion_log.FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_told_is_what_ilo_makes_of_the_snapshot(faces, tmp_path):
    train(config(faces), tmp_path / "run")
    told = [row for row in rows(tmp_path / "run") if row["kimg"] == "0.080"]
    G = load_snapshot(tmp_path / "run" / "snapshot-000000.safetensors").generator
    ds = open_dataset(str(faces), 16, "validation")
    truth = ds.load(range(len(ds))[:8]).float() / 255
    operator = PartialCirculant((3, 16, 16), 0.1, 0)
    found = ILO(G, steps=(3, 2, 2)).invert(operator(truth), operator, [ds.key(i) for i in range(len(truth))])
    errors = np.square(found.rounds.numpy().astype(np.float64) - truth.numpy()).mean((2, 3, 4))
    assert [row["after"] for row in told] == ["latents", "cut 1", "cut 2"]
    assert [float(row["psnr"]) for row in told] == pytest.approx(-10 * np.log10(errors).mean(1), abs=0.05)
    curves = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.value for event in curves.Scalars("study/psnr/cut 2")] == pytest.approx(
        [float(row["psnr"]) for row in rows(tmp_path / "run") if row["after"] == "cut 2"], abs=1e-3
    )


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_a_study_changes_nothing_and_a_resumed_run_tells_the_same(faces, tmp_path, arch):
    changes = {"arch": arch} | (
        {"stages": {4: 0.04, 8: 0.04, 16: 0.04}, "codes": [1, 3], "kimg": 0.12} if arch == "pggan" else {}
    )
    without, run = tmp_path / "without", tmp_path / "run"
    train(config(faces, **changes, study_kimg=None), without)
    train(config(faces, **changes), run)
    whole = rows(run)
    first, second = (torch.load(checkpoints(folder)[-1], weights_only=True)["state_dict"] for folder in (without, run))
    assert all(torch.equal(first[name], second[name]) for name in first)
    checkpoints(run)[-1].unlink()
    train(config(faces, **changes), run, resume="latest")
    assert rows(run) == whole
    assert not (without / inversion_log.FILE).exists()
