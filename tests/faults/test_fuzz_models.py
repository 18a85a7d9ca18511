"""Damaged models, checkpoints, settings and caches: refused in a line, or read as they were; nothing else.

A file with a checksum is never read as anything but what was written.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rtil.cli.train import main as train_main
from rtil.cli.train import resumed
from rtil.data import cache
from rtil.errors import UserError
from rtil.generators.base import weight_hash
from rtil.interop.rosinality_export import rosinality_checkpoint
from rtil.inverse import latent_space
from rtil.ops import prebuilt
from rtil.runs import train_runs, write_settings
from rtil.snapshot import load_snapshot
from rtil.torch_files import read_torch
from rtil.training.checkpoint import checkpoints
from rtil.training.run import check_checkpoint, train
from rtil.weights.classifiers import read_weights
from tests.faults import models
from tests.faults.fuzz import TRIES, Counts, fuzz
from tests.rtil.interop import made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "damaged").mkdir()
    return tmp_path / "damaged"


@pytest.fixture
def told(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Return what checks and tells the counts of a door."""

    def tell(door: str, counts: Counts, least_refused: float = 0.3, memory_mb: int = 600) -> None:
        with capsys.disabled():
            print(f"\n{door}: {counts}")
        record_property(door, str(counts))
        assert counts.escaped == []
        assert counts.tried == TRIES
        assert counts.refused >= least_refused * TRIES
        assert counts.peak_mb < memory_mb

    return tell


def the_same(path: Path) -> None:
    """Open a snapshot; what opens is what was written."""
    opened = load_snapshot(path)
    arch = opened.generator.arch
    assert opened.weight_hash == weight_hash(models.generator(arch)), "other weights"
    assert opened.info == models.INFO | {"arch": arch}, "other words"


def test_snapshots(tmp_path: Path, folder: Path, told: Callable[..., None]) -> None:
    sound = [models.snapshot(tmp_path / f"{arch}.safetensors", arch) for arch in ("stylegan2", "pggan")]
    for path in sound:
        the_same(path)
    told("snapshot, bytes", fuzz(the_same, sound, folder), least_refused=0.9)
    told("snapshot, metadata", fuzz(load_snapshot, sound, folder, change=models.strange_metadata, seconds=10))


def test_a_run_folder_with_a_damaged_snapshot(tmp_path: Path, folder: Path, told: Callable[..., None]) -> None:
    sound = [models.snapshot(tmp_path / "snapshot-000001.safetensors")]
    run = folder / "00000-run"
    run.mkdir()

    def door(path: Path) -> None:
        shutil.copy(path, run / path.name)
        assert len(train_runs(folder)) == 1

    told("run folder", fuzz(door, sound, folder, change=models.strange_metadata), least_refused=0.1)


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_checkpoints(arch: str, tmp_path: Path, folder: Path, make_pictures, told: Callable[..., None]) -> None:
    config = models.training(make_pictures(tmp_path / "faces", 6, 8), arch)
    train(config, tmp_path / "run")
    sound = checkpoints(tmp_path / "run")[-1:]
    expected = read_torch(sound[0])["state_dict"]

    def door(path: Path) -> None:
        check_checkpoint(path, config)
        found = read_torch(path)["state_dict"]
        assert all(torch.equal(found[name], value) for name, value in expected.items()), "other weights"

    door(sound[0])
    told(f"checkpoint {arch}, bytes", fuzz(door, sound, folder), least_refused=0.4)

    def crafted(path: Path) -> None:
        check_checkpoint(path, config)

    told(f"checkpoint {arch}, values", fuzz(crafted, sound, folder, change=models.strange_checkpoint))


def test_other_projects_files(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[..., None]
) -> None:
    made.fake_nvidia(monkeypatch)
    G = made.stylegan2(8)
    keys = made.nvidia_keys(G)
    sound = [made.write_nvidia(tmp_path / "nvidia.pkl", keys), tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "c.pt"]
    content = rosinality_checkpoint(G) | {"args": argparse.Namespace(size=8)}
    torch.save(content, sound[1])
    torch.save(content, sound[2], _use_new_zipfile_serialization=False)
    torch.save(made.genforce_weights(), sound[3])
    save_file({f"G_ema.{k}": v.contiguous() for k, v in keys.items()}, tmp_path / "d.safetensors")
    sound.append(tmp_path / "d.safetensors")
    for path in sound:
        load_snapshot(path)
    told("other projects' files", fuzz(load_snapshot, sound, folder, seconds=60))


def test_settings_of_a_run(tmp_path: Path, folder: Path, told: Callable[..., None]) -> None:
    configs = [models.training(tmp_path, arch) for arch in ("stylegan2", "pggan")]
    write_settings(tmp_path, configs[0].to_json() | {"precision": "float32"})

    def door(path: Path) -> None:
        resumed(configs[0], path.parent, [])

    told("settings.json", fuzz(door, [tmp_path / "settings.json"], folder))


def test_config_files(tmp_path: Path, folder: Path, told: Callable[..., None]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("# a\narch: stylegan2\nrtil: true\nchannels: {4: 8, 8: 8}\nresolution: 8\nkimg: 1.5\nseed: 3\n")

    def door(path: Path) -> None:
        if code := train_main(["--config", str(path), "--print_config"]):
            assert code == 2
            raise UserError("refused")

    told("config file", fuzz(door, [path], folder))


def test_caches_are_never_an_error(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[..., None]
) -> None:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path))
    monkeypatch.setattr(latent_space, "FIT_DRAWS", 100)
    mean, std = latent_space.cached_fit(models.generator())
    (fit,) = tmp_path.glob("gaussian-fit-*")

    def kept_fit(path: Path) -> None:
        found = latent_space._kept_fit(path)
        if found is None:
            raise UserError("made again")
        assert torch.equal(found[0], mean)
        assert torch.equal(found[1], std)

    told("cached Gaussian fit", fuzz(kept_fit, [fit], folder), least_refused=0.9)
    np.save(tmp_path / "pictures.npy", np.zeros((4, 3, 8, 8), np.uint8))

    def kept_pictures(path: Path) -> None:
        if cache._open(path, (4, 3, 8, 8)) is None:
            raise UserError("made again")

    told("cached pictures", fuzz(kept_pictures, [tmp_path / "pictures.npy"], folder), least_refused=0.1)


def test_manifest_of_a_prebuilt_library(tmp_path: Path, folder: Path, told: Callable[..., None]) -> None:
    (tmp_path / "manifest.json").write_text(
        json.dumps({"torch": "2", "cuda": False, "archs": [], "cpu": ["x"], "library": "0", "sources": "1"}, indent=1)
    )
    (folder / "librtil_ops.so").write_bytes(b"no library")

    def door(path: Path) -> None:
        reason = prebuilt.problem(tmp_path, (), path.parent)
        assert reason
        raise UserError(reason)

    told("prebuilt manifest", fuzz(door, [tmp_path / "manifest.json"], folder), least_refused=1)


def test_weights_of_a_classifier(tmp_path: Path, folder: Path, told: Callable[..., None]) -> None:
    sound = tmp_path / "a.pt"
    torch.save({"model": {"module.model.a": torch.zeros(400), "module.model.b": torch.zeros(3)}}, sound)
    told("classifier weights", fuzz(read_weights, [sound], folder))
