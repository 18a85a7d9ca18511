"""Snapshots and checkpoints that are not what they should be: one line, exit code 2, nothing lost.

Numbers are those of the table in docs/faults/models.md.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rtil.cli.sample import main as sample
from rtil.cli.train import main as train
from rtil.errors import Notice, RunError
from rtil.runs import claim
from rtil.snapshot import load_snapshot, save_snapshot
from rtil.tensor_files import read_tensors
from rtil.training.checkpoint import SET_ASIDE, AtomicCheckpointIO, checkpoints
from tests.faults import models
from tests.faults.conftest import SMALL


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Save a checkpoint anew with something in it changed."""
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def test_2_flipped_bytes_of_a_snapshot_are_noticed(here: Path, refused: Callable[..., str]) -> None:
    path = models.snapshot(here / "a.safetensors")
    models.flipped(path, path.stat().st_size - 7)
    assert "a.safetensors: it is damaged: its content does not fit its checksum" in refused(
        sample, "--snapshot", "a.safetensors"
    )
    models.snapshot(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"kimg\\": 1.0', b'\\"kimg\\": 9.0'))
    assert path.read_bytes() != content
    assert "checksum" in refused(sample, "--snapshot", "a.safetensors")


def test_2_a_snapshot_of_before_there_were_checksums_opens(here: Path) -> None:
    path = models.snapshot(here / "a.safetensors")
    path.write_bytes(models.with_header(path.read_bytes(), lambda header: None))
    assert load_snapshot(path).info == models.INFO


def test_3_equal_trainings_give_equal_snapshots(here: Path) -> None:
    written = set()
    for name in ("a", "b", "c", "d", "e", "f"):
        written.add(models.snapshot(here / f"{name}.safetensors", sigma=2.0).read_bytes())
    assert len(written) == 1
    assert read_tensors(here / "a.safetensors").keys() == models.generator().state_dict().keys()


@pytest.mark.parametrize(
    ("table", "values", "words"),
    [
        ("config", {"channels": {"4": 4000, "8": 4000}}, "has shape [4, 4, 4], not [4000, 4, 4]"),
        ("config", {"mapping_layers": 10**7}, "its mapping_layers is 10000000: valid is from 1 to 1048576"),
        ("config", {"mapping_layers": 10**6}, "1000000 mapping layers, and the file only 29 weights"),
        ("config", {"w_dim": 10**9}, "its w_dim is 1000000000: valid is from 1 to 1048576"),
        ("config", {"resolution": 2**40}, "its resolution is"),
        ("config", {"resolution": "8"}, "resolution in its config is '8': valid is a whole number"),
        ("config", {"colour": 1}, "unknown key in its config 'colour'"),
        ("info", {"kimg": "many"}, "kimg in its info is 'many': valid is a number"),
        ("info", {"rtil": 1}, "rtil in its info is 1: valid is true or false"),
    ],
)
def test_4_metadata_is_checked_before_anything_is_built(
    table: str, values: dict[str, Any], words: str, here: Path, refused: Callable[..., str]
) -> None:
    path = models.snapshot(here / "a.safetensors")

    def change(header: dict[str, Any]) -> None:
        metadata = header["__metadata__"]
        metadata[table] = json.dumps(json.loads(metadata[table]) | values)

    path.write_bytes(models.with_header(path.read_bytes(), change))
    assert words in refused(sample, "--snapshot", "a.safetensors")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"config": None}, "its metadata lacks config"),
        ({"info": "{"}, "its info is not JSON"),
        ({"info": "[" * 100_000}, "its info is nested too deep"),
        ({"info": '{"a": 1, "a": 2}'}, "it has the key 'a' twice"),
        ({"config": "[]"}, "its config is []: valid is a table"),
        ({"colour": "red"}, "unknown key in its metadata 'colour'"),
        ({"format": "rtil-snapshot-2"}, "this version reads 'rtil-snapshot-1': update rtil"),
        ({"arch": "pggan"}, "unknown key in its config"),
    ],
)
def test_5_metadata_that_no_snapshot_has(
    metadata: dict[str, str | None], words: str, here: Path, refused: Callable[..., str]
) -> None:
    path = models.snapshot(here / "a.safetensors")

    def change(header: dict[str, Any]) -> None:
        merged = header["__metadata__"] | metadata
        header["__metadata__"] = {name: text for name, text in merged.items() if text is not None}

    path.write_bytes(models.with_header(path.read_bytes(), change))
    assert words in refused(sample, "--snapshot", "a.safetensors")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_45_weights_that_are_not_finite_are_named(value: str, here: Path, refused: Callable[..., str]) -> None:
    path = models.snapshot(here / "a.safetensors")
    tensors = load_file(path)
    tensors["blocks.1.conv0.weight"][1, 2, 0, 1] = float(value)
    G = models.generator()
    metadata = {"format": "rtil-snapshot-1", "arch": G.arch, "config": json.dumps(G.config), "info": "{}"}
    save_file(tensors, path, metadata)
    assert "weight 'blocks.1.conv0.weight' is not finite" in refused(sample, "--snapshot", "a.safetensors")


def test_6_a_checkpoint_in_the_place_of_a_snapshot(run: Path, refused: Callable[..., str]) -> None:
    line = refused(sample, "--snapshot", "run/checkpoint-00000000016.ckpt")
    assert "is a checkpoint of a training: give its run folder, or a snapshot" in line


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = models.snapshot(tmp_path / "a.safetensors")
    before = path.read_bytes()
    G = models.generator()
    with torch.no_grad():
        G.w_mean.fill_(float("inf"))
    with pytest.raises(RunError, match="w_mean"):
        save_snapshot(path, G, {})
    assert path.read_bytes() == before


def test_6_a_snapshot_in_the_place_of_a_checkpoint(run: Path, refused: Callable[..., str]) -> None:
    line = refused(train, "--out", "run", "--resume", "run/snapshot-000000.safetensors")
    assert "is no checkpoint but a snapshot, or weights" in line


@pytest.mark.parametrize("place", ["state_dict", "optimizer_states"])
def test_45_a_checkpoint_that_is_not_finite(place: str, run: Path, refused: Callable[..., str]) -> None:
    def change(state: dict[str, Any]) -> None:
        if place == "state_dict":
            state["state_dict"]["D.fromrgb.weight"][0, 0] = float("nan")
        else:
            state["optimizer_states"][1]["state"][0]["exp_avg_sq"].fill_(float("inf"))

    path = run / "checkpoint-00000000016.ckpt"
    changed(path, change)
    name = "state_dict.D.fromrgb.weight" if place == "state_dict" else "optimizer_states.1.state.0.exp_avg_sq"
    line = refused(train, "--out", "run", "--resume", str(path), "--kimg", "0.02")
    assert f"has {name} that is not finite; an older one is" in line


def test_45_no_checkpoint_is_written_of_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-00000000001.ckpt"
    AtomicCheckpointIO().save_checkpoint({"optimizer_states": [torch.ones(2)]}, path)
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"optimizer_states\.0 is not finite"):
        AtomicCheckpointIO().save_checkpoint({"optimizer_states": [torch.tensor([1, torch.nan])]}, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "cut short", "a bit", "text", "not finite"])
def test_39_the_newest_is_damaged_so_the_one_before_is_taken_and_it_is_set_aside(
    damage: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newest = checkpoints(run)
    if damage == "a bit":
        weight = torch.load(newest, weights_only=True)["state_dict"]["G.blocks.0.const"]
        models.flipped(newest, newest.read_bytes().index(weight.numpy().tobytes()))
    elif damage == "not finite":
        changed(newest, lambda state: state["state_dict"]["G_ema.w_mean"].fill_(float("nan")))
    else:
        newest.write_bytes({"empty": b"", "cut short": newest.read_bytes()[:-300], "text": b"weights"}[damage])
    with pytest.warns(Notice, match=rf"checkpoint run/{newest.name} .*; going on from run/{older.name}"):
        assert train(["--out", "run", "--resume", "--kimg", "0.024", "--checkpoint_kimg", "0.024"]) == 0
    assert [path.name for path in checkpoints(run)] == [older.name, "checkpoint-00000000024.ckpt"]
    assert (run / (newest.name + SET_ASIDE)).exists()


def test_39_one_that_is_named_is_not_replaced_by_another(run: Path, refused: Callable[..., str]) -> None:
    newest = checkpoints(run)[-1]
    newest.write_bytes(newest.read_bytes()[:-300])
    line = refused(train, "--out", "run", "--resume", str(newest))
    assert "is corrupt or not ours" in line
    assert f"older one is {run}/checkpoint-00000000012.ckpt: give it with --resume" in line


def test_39_all_are_damaged(run: Path, refused: Callable[..., str]) -> None:
    before = (run / "settings.json").read_text()
    for path in checkpoints(run):
        path.write_bytes(b"")
    assert "no older one is left: start a new run" in refused(train, "--out", "run", "--resume", "--kimg", "0.02")
    assert (run / "settings.json").read_text() == before
    assert len(checkpoints(run)) == 2


def _drop(state: dict[str, Any]) -> None:
    del state["state_dict"]["G.blocks.0.const"]


def _misshape(state: dict[str, Any]) -> None:
    state["state_dict"]["G.blocks.0.const"] = torch.zeros(3, 4, 4)


def _misshape_moments(state: dict[str, Any]) -> None:
    state["optimizer_states"][0]["state"][0]["exp_avg"] = torch.zeros(3)


def _no_table(state: dict[str, Any]) -> None:
    state["optimizer_states"] = 3


def _loops(state: dict[str, Any]) -> None:
    state["loops"] = {"fit_loop": 3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop, "1 weights are missing or unknown: G.blocks.0.const"),
        (_misshape, "weight 'G.blocks.0.const' has shape [3, 4, 4], not [4, 4, 4]"),
        (_misshape_moments, "Adam's moments are not those of its weights"),
        (_no_table, "is not one of a training of this version"),
        (_loops, "cannot be gone on from"),
    ],
)
def test_37_checkpoints_with_other_weights(
    change: Callable[[dict[str, Any]], None], words: str, run: Path, refused: Callable[..., str]
) -> None:
    path = checkpoints(run)[-1]
    changed(path, change)
    settings = (run / "settings.json").read_text()
    assert words in refused(train, "--out", "run", "--resume", str(path), "--kimg", "0.02")
    if change is not _loops:  # which only Lightning reads, once the run is opened
        assert (run / "settings.json").read_text() == settings


@pytest.mark.parametrize("what", ["nope.ckpt", "other.ckpt"])
def test_7_a_resume_that_is_refused_leaves_the_settings(what: str, run: Path, refused: Callable[..., str]) -> None:
    shutil.copy(checkpoints(run)[-1], "other.ckpt")
    changed(Path("other.ckpt"), lambda state: state["rtil_settings"].update(seed=9))
    before = (run / "settings.json").read_bytes()
    refused(train, "--out", "run", "--resume", what, "--kimg", "999")
    assert (run / "settings.json").read_bytes() == before


def test_43_what_a_killed_save_left_goes_when_the_folder_is_opened(run: Path) -> None:
    left = run / ".checkpoint-00000000016.ckpt.tmp-123.ckpt"
    left.write_bytes(b"half a checkpoint")
    with claim(run, resume=True):
        assert not left.exists()
    assert len(checkpoints(run)) == 2


def test_8_a_checkpoint_is_said_to_be_kept_where_there_is_one(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rtil.training.run.train", stop)
    assert train([*SMALL, "--data", "faces", "--out", "run"]) == 130
    printed = capsys.readouterr().err
    assert "a checkpoint is kept" not in printed
    assert "before the first checkpoint" in printed
    (here / "run/checkpoint-00000000004.ckpt").touch()
    assert train(["--out", "run", "--resume", "--seed", "0"]) in (2, 130)


@pytest.mark.parametrize("what", ["checkpoint", "snapshot"])
def test_42_a_full_disk_is_named_with_what_is_left_and_the_file_before_stays(what: str, small_disk: Path) -> None:
    path = small_disk / f"a.{what}"
    big = {"a": torch.zeros(300_000)}

    def save(state: dict[str, Any]) -> None:
        if what == "checkpoint":
            AtomicCheckpointIO().save_checkpoint(state, path)
        else:
            from rtil.tensor_files import write_tensors

            write_tensors(path, state, {})

    save({"a": torch.zeros(10)})
    before = path.read_bytes()
    with pytest.raises(RunError) as caught:
        save(big)
    assert str(caught.value).startswith(f"{path} cannot be written (No space left on device): ")
    assert f"MB are left on the disk of {small_disk}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(small_disk) == [path.name]
