"""Processes that are killed at random moments, for tests; forked from one that has imported everything.

A moment is a time of computing, not of the clock: other programs on the machine do not change what a kill falls into.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

KILLS = int(os.environ.get("RTIL_KILLS", "3"))
"""Of each test; ``make kill-tests`` has twenty."""
LIVES_AT_MOST = 10
"""For each kill: a process may end before its moment."""
PRELOADED = ["rtil.training.run", "rtil.cli.comparison", "rtil.cli.converting", "rtil.cli.reconstructing", "ilo"]

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(PRELOADED)


class Outcome:
    """How a process ended.

    Attributes:
        code: Its exit code; -9 if it was killed.
        cpu_seconds: How long it had computed.
    """

    def __init__(self, code: int, cpu_seconds: float) -> None:
        self.code, self.cpu_seconds = code, cpu_seconds


def command(module: str, words: Sequence[str], folder: str, log: str) -> None:
    """Run a command of ours in a folder; for the process."""
    os.setpgid(0, 0)
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    sys.exit(import_module(module).main(words))


def start(module: str, words: Sequence[str], folder: Path) -> Any:
    """Start a command in a process of its own; its output goes to ``log`` in the folder."""
    process = SERVER.Process(target=command, args=(module, list(words), str(folder), str(folder / "log")))
    process.start()
    return process


def wait(process: Any, moment: float = float("inf")) -> Outcome:
    """Wait for the end of a process; kill it, and what it has started, once it has computed so long."""
    used = 0.0
    while process.exitcode is None:
        try:
            words = Path(f"/proc/{process.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            used = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
            if used >= moment:
                os.killpg(process.pid, signal.SIGKILL)
                process.join()
        except (FileNotFoundError, ProcessLookupError):
            process.join()
        time.sleep(0.002)
    return Outcome(process.exitcode, used)


def killed_until_done(
    name: str,
    start_anew: Callable[[], Any],
    look: Callable[[], object],
    finish: Callable[[], object],
    cpu_seconds: float,
    kills: int = KILLS,
) -> None:
    """Kill a command at random moments until it has been so often; whenever it is done, begin anew.

    Args:
        name: What is killed, for the table.
        start_anew: Starts its process, to go on where the one before was killed.
        look: Is called after every life: nothing may be lost.
        finish: Is called whenever it is done: checks what was made, and takes it away.
        cpu_seconds: How long a life takes that nobody ends.
        kills: How often.
    """
    rng = random.Random(name)  # noqa: S311  no secret
    count = lives = finished = 0
    while count < kills or not finished:
        lives += 1
        assert lives < LIVES_AT_MOST * kills, f"{name} was killed {count} times, and ended {finished} times"
        outcome = wait(start_anew(), rng.uniform(0.0, cpu_seconds) if count < kills else float("inf"))
        assert outcome.code in (0, -signal.SIGKILL), (name, outcome.code)
        look()
        if outcome.code:
            count += 1
        else:
            finished += 1
            finish()
    print(f"\n{name}: {count} kills in {lives} lives, {finished} times done")
