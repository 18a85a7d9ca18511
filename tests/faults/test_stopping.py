"""A training ends within the step that Ctrl-C or SIGTERM falls into, and one checkpoint; every command in one line."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from rtil.cli import eval as evaluation
from rtil.cli import prepare, reconstruct, sample, train
from rtil.data import prepare as packing
from rtil.evaluation.runner import Runner
from rtil.training.checkpoint import AtomicCheckpointIO, checkpoints
from rtil.training.grids import Grids
from rtil.training.module import GANTraining
from rtil.training.quality import QualityLog
from tests.faults.conftest import training

REQUESTS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
STEP = 4  # images
QUALITY = ["--quality_kimg", "0.008", "--checkpoint_kimg", "9"]
ROOT = Path(__file__).resolve().parents[2]


class Course:
    """The steps that were begun, and the checkpoints that were written, of the trainings of a test.

    Args:
        monkeypatch: Watches them.
        events: {step: what happens in its middle}.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, events: dict[int, Callable[[], object]]) -> None:
        self.steps, self.saved = 0, list[int]()
        step_on, save = GANTraining.discriminator_phase, AtomicCheckpointIO.save_checkpoint

        def watched_step(module: GANTraining, *args: Any) -> None:
            self.steps += 1
            events.get(self.steps, int)()
            step_on(module, *args)

        def watched_save(io: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Path, **options: Any) -> None:
            save(io, checkpoint, path, **options)
            self.saved.append(int(checkpoint["state_dict"]["images_seen"]))

        monkeypatch.setattr(GANTraining, "discriminator_phase", watched_step)
        monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", watched_save)


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
@pytest.mark.parametrize(("number", "code", "word"), REQUESTS)
def test_the_step_that_a_request_falls_into_is_the_last_and_is_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arch: str, number: int, code: int,
    word: str,
) -> None:  # fmt: skip
    course = Course(monkeypatch, {3: lambda: signal.raise_signal(number)})
    assert train.main([*training(arch, 0.128), "--checkpoint_kimg", "9"]) == code
    assert course.steps == 3
    assert course.saved == [3 * STEP]
    told = f"{word}: a checkpoint is kept, go on with --out run --resume\n"
    assert capsys.readouterr().err == told


def test_before_the_first_step_a_request_waits_for_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    course = Course(monkeypatch, {})
    monkeypatch.setattr(Grids, "on_fit_start", lambda *_: signal.raise_signal(signal.SIGINT))
    assert train.main(training("stylegan2", 0.04)) == 130
    assert (course.steps, course.saved) == (0, [])
    assert capsys.readouterr().err == "interrupted: before the first checkpoint, go on with --out run --resume\n"


def test_a_request_while_a_checkpoint_is_written_adds_no_second(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course = Course(monkeypatch, {})
    save = AtomicCheckpointIO.save_checkpoint

    def saving(*args: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        save(*args, **options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", saving)
    assert train.main([*training("stylegan2", 0.04), "--checkpoint_kimg", "0.008"]) == 143
    assert (course.steps, course.saved) == (2, [2 * STEP])


def test_a_request_while_quality_is_measured_leaves_that_out(
    here: Path, monkeypatch: pytest.MonkeyPatch, make_pictures: Callable[[Path, int, int], Path]
) -> None:
    make_pictures(here / "more", 24, 8)
    course, measured = Course(monkeypatch, {}), list[int]()

    def measuring(log: QualityLog, trainer: Any, module: GANTraining) -> None:
        signal.raise_signal(signal.SIGTERM)
        measured.append(module.seen)

    monkeypatch.setattr("rtil.training.quality.PooledFeatures", str)
    monkeypatch.setattr(QualityLog, "on_fit_start", lambda *_: None)
    monkeypatch.setattr(QualityLog, "_measure", measuring)
    assert train.main([*training("stylegan2", 0.04), "--data", "more", *QUALITY]) == 143
    assert measured == []
    assert (course.steps, course.saved) == (2, [2 * STEP])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGHUP")
def test_a_closed_terminal_leaves_a_checkpoint(here: Path) -> None:
    import pty

    command = [sys.executable, "-m", "rtil", "train", *training("stylegan2", 99), "--checkpoint_kimg", "90"]
    process, terminal = pty.fork()
    if not process:
        os.execve(sys.executable, command, os.environ | {"PYTHONPATH": str(ROOT), "RTIL_OPS": "native"})  # noqa: S606
    deadline = time.monotonic() + 200
    while not (here / "run/fakes-000000.png").exists():  # made after ten steps
        assert time.monotonic() < deadline, os.read(terminal, 4096)
        time.sleep(0.1)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGHUP
    assert len(checkpoints(here / "run")) == 1


Reader = Callable[[], int]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Pictures come from a process; returns a function that says which."""
    monkeypatch.setattr("rtil.data.batches.MEMORY_LIMIT_BYTES", 0)
    monkeypatch.setattr("rtil.data.batches.MOST_WORKERS", 1)

    def process() -> int:
        (child,) = multiprocessing.active_children()
        assert child.pid is not None
        return child.pid

    return process


def test_a_killed_process_that_reads_is_one_line(
    here: Path,
    reader: Reader,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Course(monkeypatch, {3: lambda: os.kill(reader(), signal.SIGKILL)})
    assert train.main(training("stylegan2", 100)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: a process that reads pictures was lost (DataLoader worker")
    assert error.count("\n") == 1
    assert checkpoints(here / "run")


def test_ctrl_c_in_a_terminal_reaches_processes_that_read_too(
    here: Path,
    reader: Reader,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ctrl_c() -> None:
        os.kill(reader(), signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    course = Course(monkeypatch, {3: ctrl_c})
    assert train.main([*training("stylegan2", 100), "--checkpoint_kimg", "9"]) == 130
    assert (course.steps, course.saved) == (3, [3 * STEP])
    assert capsys.readouterr().err.count("\n") == 1


def interrupting(function: Callable[..., Any], time: int) -> Callable[..., Any]:
    """Return a function that is interrupted the so-many-th time it is called, whatever thread calls it."""
    calls = []

    def called(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == time:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args, **kwargs)

    return called


def test_prepare(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packing, "read_image", interrupting(packing.read_image, 3))
        assert prepare.main(["faces", "out.zip", "--resolution", "4"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert sorted(path.name for path in here.iterdir()) == ["faces"]
    assert prepare.main(["faces", "out.zip", "--resolution", "4"]) == 0


def test_eval(here: Path, prior: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--checkpoints", f"a={prior}", "--images", "4", "--batch", "1", "--steps", "1", "--lpips", "none"]
    words += ["--no_linear", "--device", "cpu", "--out", "e"]
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_save", interrupting(Runner._save, 3))
        assert evaluation.main(words) == 130
    assert capsys.readouterr().err == "interrupted: finished rows are kept, go on with --out e --resume\n"
    assert (here / "e/rows.jsonl").read_text().count("\n") == 2
    assert evaluation.main(["--out", "e", "--resume"]) == 0


def test_reconstruct_and_sample(
    here: Path, prior: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError

    monkeypatch.setattr("rtil.generators.base.LayeredGenerator.__call__", interrupted)
    monkeypatch.setattr("ilo.ilo.ILO.invert", interrupted)
    words = ["--snapshot", str(prior), "--device", "cpu", "--out"]
    photo = ["--input", "faces/0.png", "--fit", "--task", "inversion"]
    assert reconstruct.main([*photo, *words, "r"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    monkeypatch.setattr("rtil.sampling.samples", interrupted)
    assert sample.main([*words, "s.png"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not (here / "s.png").exists()
