import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rtil
from rtil.errors import Notice, RunError
from rtil.locks import Timeout, acquire, locked
from rtil.runs import LOCK, OWNER, claim, new_run

HOLDING = """
import time
from pathlib import Path
from rtil.runs import claim
with claim(Path("run")):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "x"), pytest.raises(Timeout):
        acquire(tmp_path / "x")
    acquire(tmp_path / "x").release()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_told_and_used(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(Notice, match="has no locks: see that no other process writes there"), claim(tmp_path / "run"):
        pass
    with pytest.warns(Notice, match="has no locks"):
        assert new_run(tmp_path / "runs", "a").name == "00000-a"


def test_another_error_is_no_lack_of_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RunError, match="Input/output error"), claim(tmp_path / "run"):
        pass


def test_files_of_dead_owners_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).touch()
    (tmp_path / "run" / OWNER).write_text(f"{2**22 + 1}\n")
    with claim(tmp_path / "run"):
        pass


def test_a_killed_owner_holds_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(rtil.__file__).parents[1])}
    command = [sys.executable, "-c", HOLDING]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"in use by process {process.pid}"), claim(tmp_path / "run"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with claim(tmp_path / "run"):
            pass


def test_a_clock_that_goes_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_run(tmp_path, "a")
    os.utime(first, (2e9, 2e9))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert new_run(tmp_path, "b").name == "00001-b"
    with locked(tmp_path / "x"), pytest.raises(Timeout):
        acquire(tmp_path / "x", timeout=0.2)
