"""Ctrl-C and SIGTERM, before a command listens, while it runs, and twice."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

import rtil
from rtil.cli.common import Prepared, run_command
from rtil.errors import UserError
from rtil.launch import LAUNCHED
from rtil.stopping import Request, Terminated, handled

IMPORTING = "import signal, time\n{tell}\ntime.sleep(60)\n"
WORKING = """
import time
from dataclasses import dataclass
from rtil.cli.common import Prepared, run_command

@dataclass
class Options:
    "Do something."

def work():
    try:
        {tell}
        time.sleep(60)
    finally:
        {tell}
        time.sleep({unwinding})

def main():
    return run_command(lambda options: Prepared([], work), Options, [], "do")
"""
TELL = "print('now', flush=True)"


@dataclass
class Options:
    """Do something."""


def ended(job: str, number: int, times: int, folder: Path) -> tuple[int, str]:
    """Start a job, signal each time that it says so; return exit code and stderr."""
    (folder / "job.py").write_text(job)
    environment = {name: value for name, value in os.environ.items() if name != LAUNCHED}
    environment["PYTHONPATH"] = str(Path(rtil.__file__).parents[1])
    command = [sys.executable, "-c", "from rtil.launch import launch; launch('job')"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(times):
            assert process.stdout.readline() == "now\n", process.stderr.read()
            process.send_signal(number)
        return process.wait(30), process.stderr.read()


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (15, 143, "terminated")])
def test_one_line_while_things_are_imported(tmp_path: Path, number: int, code: int, word: str) -> None:
    assert ended(IMPORTING.format(tell=TELL), number, 1, tmp_path) == (code, f"{word}\n")


def test_one_line_while_it_works(tmp_path: Path) -> None:
    assert ended(WORKING.format(tell=TELL, unwinding=0), signal.SIGINT, 1, tmp_path) == (130, "interrupted\n")


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (15, 143, "terminated")])
def test_a_second_request_waits_for_nothing(tmp_path: Path, number: int, code: int, word: str) -> None:
    assert ended(WORKING.format(tell=TELL, unwinding=60), number, 2, tmp_path) == (code, f"{word}\n")


def test_an_import_that_turns_the_request_into_an_error_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def open_work(options: Options) -> Prepared:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise UserError("torchvision is broken") from error
        raise AssertionError

    assert run_command(open_work, Options, [], "x") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_ignored_signals_stay_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with handled(Request().receive):
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(Terminated):
                signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_command_in_a_thread_leaves_signals_alone() -> None:
    before, codes = signal.getsignal(signal.SIGTERM), list[int]()
    thread = threading.Thread(target=lambda: codes.append(run_command(lambda _: Prepared([], int), Options, [], "x")))
    thread.start()
    thread.join()
    assert codes == [0]
    assert signal.getsignal(signal.SIGTERM) is before
