"""Two processes, Ctrl-C, killed workers: each ends in one line, with nothing half-written and nothing lost."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rtil.cli.outputs import check_out_file, check_out_folder, owned_folder
from rtil.errors import RunError, UserError
from tests.faults.picture_cases import PRIOR, picture, run, workplace

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RTIL_OPS": "native", "OMP_NUM_THREADS": "1"}
HOLD = """
import sys, time
from pathlib import Path
from rtil.cli.outputs import owned_folder
with owned_folder(Path(sys.argv[1]), "result.json"):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_a_folder_that_another_process_writes_is_refused_before_the_inversion(tmp_path: Path) -> None:
    with workplace(tmp_path):
        command = [sys.executable, "-c", HOLD, "o"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "mine\n"
            start = time.monotonic()
            code, out, err = run(f"reconstruct --input face.png --snapshot {PRIOR} --steps 9999 --out o")
            assert time.monotonic() - start < 60, "it did not invert"
        assert (code, out) == (2, "")
        assert f"o is in use by process {other.pid} on {socket.gethostname()}: wait for it" in err
        assert not Path("o").exists(), "left empty, it is removed"
        code, _, err = run(f"reconstruct --input face.png --snapshot {PRIOR} --steps 1 --out o")
        assert code == 0, err
        before = {path: path.read_bytes() for path in Path("o").iterdir()}
        assert not [path for path in before if path.name.startswith(".")], "the lock is gone"
        code, _, err = run(f"reconstruct --input face.png --snapshot {PRIOR} --steps 1 --out o")
        assert code == 2
        assert "already holds result.json" in err
        assert before == {path: path.read_bytes() for path in Path("o").iterdir()}


def test_who_comes_after_another_has_finished_is_refused(tmp_path: Path) -> None:
    with owned_folder(tmp_path / "o", "result.json") as out:
        (out / "result.json").touch()
    with pytest.raises(RunError, match=r"already holds result\.json"), owned_folder(tmp_path / "o", "result.json"):
        pass
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["result.json"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_where_one_may_not_write_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    for check in (check_out_folder, check_out_file):
        with pytest.raises(UserError, match="you may not write into"):
            check(tmp_path / "closed/new")


def test_a_start_that_is_replaced_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtil.cli import reconstructing

    with workplace(tmp_path):
        arguments = f"--input face.png --snapshot {PRIOR} --steps 1"
        assert run(f"reconstruct {arguments} --out first")[0] == 0
        load = reconstructing.load_result

        def load_and_replace(path: Path) -> object:
            found = load(path)
            Path("copy").write_bytes(path.read_bytes())
            Path("copy").replace(path)
            return found

        monkeypatch.setattr(reconstructing, "load_result", load_and_replace)
        code, _, err = run(f"reconstruct {arguments} --start_from first/result.safetensors --out o")
        assert code == 2
        assert "changed while it was read" in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_prepare_that_is_stopped_leaves_what_was_there(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(100):
        picture(32).save(tmp_path / f"in/{n}.png")
    (tmp_path / "out.zip").write_bytes(b"before")
    command = [sys.executable, "-m", "rtil", "prepare", "in", "out.zip", "--resolution", "1500"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".out.zip.tmp-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert len(err.splitlines()) == 1, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.zip"]
    assert (tmp_path / "out.zip").read_bytes() == b"before"


LOADING = """
import os, signal, sys, time
import torch
from torch.utils.data import DataLoader, IterableDataset
from rtil.cli.common import mistake
from rtil.data.workers import worker_errors_in_one_line
from rtil.errors import UserError

class Batches(IterableDataset):
    def __iter__(self):
        yield from torch.zeros(2, 1)
        if sys.argv[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("cannot read image 'a.png': it is empty")

try:
    with worker_errors_in_one_line():
        for _ in DataLoader(Batches(), batch_size=None, num_workers=2, multiprocessing_context="fork"):
            time.sleep(0.01)
except UserError as error:
    sys.exit(mistake(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ("killed", "error: a process that reads pictures was lost (DataLoader worker"),
        ("bad", "error: cannot read image 'a.png': it is empty"),
    ],
)
def test_a_worker_that_ends_is_one_line(ends: str, words: str) -> None:
    command = [sys.executable, "-c", LOADING, ends]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1, done.stderr
