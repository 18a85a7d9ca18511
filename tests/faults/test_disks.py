"""Full disks, and disks that may only be read: what was there stays whole, one line says what to do."""

import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rtil.cli import train
from rtil.errors import Notice, RunError
from rtil.evaluation.rows import Row, RowFile
from rtil.files import atomic_path, write_text
from rtil.pictures import save_png
from rtil.training.checkpoint import AtomicCheckpointIO, checkpoints
from rtil.training.event_file import EventFile
from rtil.training.module import GANTraining
from tests.faults.conftest import training

MANY = 600_000


def as_text(path: Path) -> None:
    write_text(path, "x" * MANY)


def as_checkpoint(path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(MANY // 4)}, path)


def as_snapshot(path: Path) -> None:
    with atomic_path(path) as temporary:
        save_file({"a": torch.zeros(MANY // 4)}, temporary)


def as_picture(path: Path) -> None:
    save_png(torch.rand(3, 450, 450, generator=torch.Generator().manual_seed(0)), path)


def as_array(path: Path) -> None:
    with atomic_path(path) as temporary:
        np.save(temporary.with_suffix(".npy"), np.zeros(MANY, np.uint8))


def as_zip(path: Path) -> None:
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr("a", bytes(MANY))


@pytest.mark.parametrize("write", [as_text, as_checkpoint, as_snapshot, as_picture, as_array, as_zip])
def test_a_full_disk_keeps_the_file_before(write: Callable[[Path], None], small_disk: Path) -> None:
    path = small_disk / "x.npy"
    write(path)
    before = path.read_bytes()
    place = re.escape(str(small_disk))
    told = rf"x\.npy cannot be written \(No space left on device\): \d\.\d MB are left on the disk of {place}; delete"
    with pytest.raises(RunError, match=told):
        write(path)
    assert path.read_bytes() == before
    assert list(small_disk.iterdir()) == [path]
    path.unlink()
    write(path)


@pytest.mark.parametrize("write", [as_text, as_checkpoint, as_snapshot, as_picture])
def test_a_disk_for_reading_only_is_named(write: Callable[[Path], None], small_disk: Path) -> None:
    write_text(small_disk / "x.txt", "before")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    told = rf"\(Read-only file system\): the disk of {re.escape(str(small_disk))} is mounted for reading only"
    with pytest.raises(RunError, match=told):
        write(small_disk / "x.txt")
    assert (small_disk / "x.txt").read_text() == "before"


def fill(disk: Path) -> None:
    """Leave no room."""
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def row(image: str) -> Row:
    return Row(image, "ilo", "cs", 0.1, "a", 0, "")


def test_rows_that_do_not_fit_leave_the_others(small_disk: Path) -> None:
    path = small_disk / "rows.jsonl"
    RowFile(path).extend([row("a")])
    fill(small_disk)
    before = path.read_bytes()
    with pytest.raises(RunError, match="No space left on device"):
        RowFile(path).extend([row(f"b{n}") for n in range(99)])
    assert path.read_bytes() == before
    (small_disk / "ballast").unlink()
    RowFile(path).extend([row("b")])
    assert [found.image for found in RowFile(path).rows()] == ["a", "b"]


def test_a_training_keeps_its_checkpoint_and_goes_on_when_there_is_room(
    here: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, step = small_disk / "run", GANTraining.discriminator_phase
    steps = []

    def fill_in_the_third(module: GANTraining, *args: object) -> None:
        steps.append(1)
        if len(steps) == 3:
            fill(small_disk)
        step(module, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(GANTraining, "discriminator_phase", fill_in_the_third)
    words = [*training("stylegan2", 0.024, str(run)), "--grid_kimg", "9", "--snapshot_kimg", "9"]
    assert train.main([*words, "--checkpoint_kimg", "0.008"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"checkpoint-00000000016\.ckpt cannot be written \(No space left on device\): 0\.\d MB", told)
    assert [path.name for path in checkpoints(run)] == ["checkpoint-00000000008.ckpt"]
    (small_disk / "ballast").unlink()
    assert train.main(["--out", str(run), "--resume"]) == 0
    assert not list(run.glob(".*.tmp-*"))
    assert json.loads((run / "settings.json").read_text())["kimg"] == 0.024


def test_curves_without_room_are_told_once_and_stop_nothing(
    here: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled at the third of ten steps, with room again from the sixth on; logged at every one."""
    run, step, flush, steps = here / "run", GANTraining.discriminator_phase, EventFile.flush, list[int]()

    def watched(module: GANTraining, *args: object) -> None:
        steps.append(1)
        if len(steps) == 3:
            fill(small_disk)
        if len(steps) == 6:
            (small_disk / "ballast").unlink()
        step(module, *args)  # type: ignore[arg-type]

    def flush_there(file: EventFile) -> None:
        file.path = small_disk / file.path.name
        flush(file)

    monkeypatch.setattr(GANTraining, "discriminator_phase", watched)
    monkeypatch.setattr(EventFile, "flush", flush_there)
    words = [*training("stylegan2", 0.04), "--log_kimg", "0.004", "--grid_kimg", "0.004"]
    with pytest.warns(Notice) as told:
        assert train.main(words) == 0
    (line,) = [str(one.message) for one in told if "cannot be written" in str(one.message)]
    assert line.endswith("curves have gaps, the training goes on")
    assert (run / "checkpoint-00000000040.ckpt").exists()
    curves = EventAccumulator(str(small_disk)).Reload()
    assert {1, 2} <= {event.step // 4 for event in curves.Scalars("loss/generator")}
    assert {7, 8, 9, 10} <= {event.step // 4 for event in curves.Scalars("loss/generator")}
