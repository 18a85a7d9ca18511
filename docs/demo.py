"""``python -m docs.demo``, what ``make demo`` runs: train both kinds for a while, then invert held-out faces with them.

Both trainings run side by side, half of the cores each, from scratch: too short to be good priors, long enough to see
faces come. The comparison holds them beside the shipped pair, which was trained the same way for much longer. What was
interrupted goes on where it stopped. One line tells the time left for the whole.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from rtil.files import writing
from rtil.runs import holds_run

FOLDER = Path("runs/demo")
EVALUATION_SHARE = 0.8
"""Seconds of the evaluation for one second of the trainings, as measured; a guess until it tells itself."""
POLL_SECONDS = 1.0
LINE_SECONDS = 30.0
TRAINING_LEFT = re.compile(r"left +([\d.]+) min")
EVALUATION_LEFT = re.compile(r"about (\d+) s left")


class Stage:
    """A command that runs on its own, its words in a log.

    Args:
        name: Of its folder in ``runs/demo``, and of its log.
        words: The command.
        threads: Cores that it may use.
    """

    def __init__(self, name: str, words: list[str], threads: int) -> None:
        self.log_path = FOLDER / f"{name}.log"
        resume = ["--resume"] if holds_run(FOLDER / name) else []
        self.log: IO[str] = self.log_path.open("w", encoding="utf-8")
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, *words, "--out", str(FOLDER / name), *resume],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )

    def seconds_left(self, pattern: re.Pattern[str], unit_seconds: float) -> float | None:
        """Return what the log says last of the time left, or None before it does."""
        found = pattern.findall(self.log_path.read_text(encoding="utf-8"))
        return float(found[-1]) * unit_seconds if found else None

    def succeeded(self) -> bool:
        """Whether it has ended well, False while it runs.

        Raises:
            SystemExit: It failed; what it said last is printed.
        """
        code = self.process.poll()
        if code:
            print("", *self.log_path.read_text(encoding="utf-8").splitlines()[-3:], sep="\n", file=sys.stderr)
            raise SystemExit(2)
        return code == 0


class Progress:
    """Tells the time left for the whole: in a terminal always, in a log now and then."""

    def __init__(self) -> None:
        self.start = self.told = time.monotonic()

    def tell(self, what: str, seconds_left: float | None) -> None:
        """Tell what runs and how long all of it still takes."""
        now = time.monotonic()
        left = "" if seconds_left is None else f", about {seconds_left / 60:.1f} min left of the whole demo"
        line = f"{(now - self.start) / 60:4.1f} min: {what}{left}"
        if sys.stderr.isatty():
            print(f"\r{line:<100}", end="", file=sys.stderr, flush=True)
        elif now - self.told >= LINE_SECONDS:
            print(line, file=sys.stderr, flush=True)
            self.told = now


def train(words: list[str], progress: Progress) -> None:
    """Train both kinds, side by side."""
    threads = max(1, (os.cpu_count() or 1) // 2)
    command = ["train.py", "--config", "configs/train/demo.yaml", *words]
    stages = [Stage("vanilla", command, threads), Stage("rtil", [*command, "--rtil"], threads)]
    begin = time.monotonic()
    try:
        while any([not stage.succeeded() for stage in stages]):  # noqa: C419 (each is asked, so that a failure shows)
            known = [left for stage in stages if (left := stage.seconds_left(TRAINING_LEFT, 60)) is not None]
            left = max(known, default=None)
            if left is not None:
                left += EVALUATION_SHARE * (time.monotonic() - begin + left)
            progress.tell("vanilla and RTIL are training", left)
            time.sleep(POLL_SECONDS)
    finally:
        stop(stages)


def compare(words: list[str], progress: Progress) -> None:
    """Invert held-out faces with the own pair and the shipped one; print the table."""
    checkpoints = [f"{name}={FOLDER / name}" for name in ("vanilla", "rtil")]
    shipped = ["shipped-vanilla=shipped:vanilla", "shipped-rtil=shipped:rtil"]
    command = ["eval.py", "--config", "configs/eval/demo.yaml", "--checkpoints", *checkpoints, *shipped, *words]
    stage = Stage("eval", command, os.cpu_count() or 1)
    try:
        while not stage.succeeded():
            progress.tell("held-out faces are inverted", stage.seconds_left(EVALUATION_LEFT, 1))
            time.sleep(POLL_SECONDS)
    finally:
        stop([stage])
    said = stage.log_path.read_text(encoding="utf-8")
    print("", said[said.find("\nmethod") :].strip(), sep="\n")


def report() -> None:
    """Make a page of the comparison, and print where it is."""
    from rtil.report import Part, write_report

    page = write_report(
        FOLDER / "report.html",
        "The demo",
        [Part("ILO from 10 % random measurements", FOLDER / "eval")],
        commands=["make demo"],
    )
    print(f"report: {page}")


def stop(stages: list[Stage]) -> None:
    """Ask those that still run to stop, which keep what they have."""
    for stage in stages:
        if stage.process.poll() is None:
            stage.process.terminate()
    for stage in stages:
        stage.process.wait()
        stage.log.close()


def main(train_words: list[str], eval_words: list[str]) -> None:
    """Run the demo.

    Args:
        train_words: Further options of both trainings.
        eval_words: Further options of the evaluation.
    """
    with writing(FOLDER):
        FOLDER.mkdir(parents=True, exist_ok=True)
    progress = Progress()
    train(train_words, progress)
    compare(eval_words, progress)
    print(f"samples: {sorted((FOLDER / 'rtil').glob('fakes-*.png'))[-1]}")
    report()


if __name__ == "__main__":
    try:
        main([], [])
    except KeyboardInterrupt:
        print("\ninterrupted: make demo goes on where it stopped", file=sys.stderr)
        sys.exit(130)
