"""Trainings and evaluations that are killed at random, for hours, on one core: ``python -m benchmarks soak``.

A round trains a prior and evaluates it; SIGKILL ends each of the two at random moments, and ``--resume`` goes on until
it is done. StyleGAN2 and PGGAN, which grows meanwhile, take turns. A round must end as one that nobody killed: the
last checkpoint and the snapshot ``torch.equal``, rows and their number alike but for the seconds, no part of a file
left behind. After every kill the newest checkpoint must open, and no finished row may be gone.

Memory is that of one training and of one evaluation which nobody kills, behind the loop: the least squares' slope of
what the process itself holds (RssAnon), without the first third.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.frame import Recorded, print_table, run_benchmark
from rtil.errors import RunError, UserError
from rtil.training.checkpoint import checkpoints

ARCHITECTURES = ("stylegan2", "pggan")
NETWORK = ["--resolution", "32", "--channels", "{4:32,8:32,16:32,32:16}", "--z_dim", "64", "--rtil", "--device", "cpu"]
CLOCKS = ["--log_kimg", "0.2", "--checkpoint_kimg", "0.1", "--snapshot_kimg", "1", "--grid_kimg", "1"]
OWN = {"stylegan2": ["--w_dim", "64", "--mapping_layers", "2", "--batch", "8"], "pggan": []}
INVERSION = ["--method", "ilo", "--lpips", "none", "--no_linear", "--images", "16", "--batch", "4", "--device", "cpu"]
NEVER = 1e9
SECONDS_BETWEEN_LOOKS = 0.2
LIVES_AT_MOST = 200


@dataclass
class SoakOptions(Recorded):
    """Kill trainings and evaluations at random, and see that nothing is lost.

    Args:
        minutes: How long rounds go on; the last one is finished.
        steady_minutes: How long a training, and then an evaluation, runs undisturbed to see whether its memory grows.
        mean_life: Seconds of computing until the next kill, on the average of an exponential distribution.
        kimg: Length of each training.
        steps: Steps of each of ILO's rounds.
        core: Processor on which everything runs; null is any.
        seed: Of the moments.
        folder: Where the runs lie; it must not exist, and is deleted where all went well.
    """

    minutes: float = 180
    steady_minutes: float = 20
    mean_life: float = 15
    kimg: float = 2
    steps: int = 40
    core: int | None = None
    seed: int = 0
    folder: Path = Path("runs/soak")


@dataclass
class Life:
    """A process from its start to its end.

    Attributes:
        code: How it ended; None if it was killed.
        memory: (seconds, MB) as time went by.
        output: The file of what it printed.
    """

    code: int | None
    memory: list[tuple[float, float]]
    output: Path


def live(words: Sequence[str], output: Path, cpu_seconds: float = NEVER, seconds: float = NEVER) -> Life:
    """Run a command of rtil; kill it and its children after so much time, unless it has ended."""
    memory: list[tuple[float, float]] = []
    with output.open("ab") as log:
        command = [sys.executable, "-m", "rtil", *words]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)  # noqa: S603
    try:
        started = time.monotonic()
        while used_seconds(process.pid) < cpu_seconds and (passed := time.monotonic() - started) < seconds:
            try:
                return Life(process.wait(SECONDS_BETWEEN_LOOKS), memory, output)
            except subprocess.TimeoutExpired:
                if held := held_mb(process.pid):  # 0 of one that has just ended
                    memory.append((passed, held))
        return Life(None, memory, output)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def used_seconds(process: int) -> float:
    """Return how long a process has computed, which other programs on the machine do not change."""
    words = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def held_mb(process: int) -> float:
    """Return what a process holds of memory by itself, without files that it maps; 0 where it has just ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon:"))


def growth_mb_per_hour(memory: Sequence[tuple[float, float]]) -> float:
    """Return the slope of memory over time, of (seconds, MB), without the first third.

    Example:
        >>> growth_mb_per_hour([(0, 9), (0, 9), (0, 9), *((second, 100 + second / 360) for second in range(6))])
        10.0
    """
    points = torch.tensor(memory[len(memory) // 3 :], dtype=torch.float64)
    seconds, held = (points - points.mean(0)).unbind(1)
    return round(float(3600 * (seconds @ held) / (seconds @ seconds)), 6)


def training(arch: str, folder: Path, kimg: float) -> list[str]:
    """Return the words of a training."""
    return ["train", "--arch", arch, *NETWORK, *OWN[arch], *CLOCKS, "--kimg", f"{kimg:g}", "--out", str(folder)]


def evaluation(prior: Path, folder: Path, steps: int, images: int = 16) -> list[str]:
    """Return the words of an evaluation."""
    own = ["--steps", str(steps), "--images", str(images), "--checkpoints", f"prior={prior}", "--out", str(folder)]
    return ["eval", *INVERSION, *own]


def finished_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the whole rows of an evaluation by picture, without what depends on the clock."""
    path = folder / "rows.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows = {row["image"]: row for row in map(json.loads, lines)}
    clocks = {"seconds", "check"}  # the sum of a line is of its seconds too
    return {image: {name: row[name] for name in row.keys() - clocks} for image, row in rows.items()}


def last_state(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a training's last checkpoint, and of its last snapshot."""
    found = checkpoints(folder)
    if not found:
        return {}
    state = torch.load(found[-1], weights_only=True)
    adam = {
        f"adam/{i}/{p}/{name}": torch.as_tensor(value)
        for i, optimiser in enumerate(state["optimizer_states"])
        for p, values in optimiser["state"].items()
        for name, value in values.items()
    }
    snapshots = sorted(folder.glob("snapshot-*.safetensors"))
    shared = {f"snapshot/{name}": tensor for name, tensor in (load_file(snapshots[-1]) if snapshots else {}).items()}
    return state["state_dict"] | adam | shared


@dataclass
class Outcome:
    """How a round ended."""

    tensors: dict[str, Tensor]
    rows: dict[str, dict[str, Any]]
    kills: dict[str, int]
    lives: dict[str, int]


class Soak:
    """Rounds in a folder, each compared with one that was not killed."""

    def __init__(self, options: SoakOptions) -> None:
        self.options, self.folder = options, options.folder
        if self.folder.exists():
            raise UserError(f"{self.folder} already exists: give another --folder")
        self.rng = random.Random(options.seed)  # noqa: S311  no secret
        self.losses: list[str] = []

    def run(self) -> dict[str, Any]:
        """Run all; return the figures."""
        o = self.options
        self.folder.mkdir(parents=True)
        whole = {arch: self.round(arch, f"whole-{arch}", killing=False) for arch in ARCHITECTURES}
        started, kills, rounds = time.monotonic(), {"train": 0, "eval": 0}, 0
        while time.monotonic() - started < 60 * o.minutes:
            arch = ARCHITECTURES[rounds % len(ARCHITECTURES)]
            rounds += 1
            before = len(self.losses)
            got = self.round(arch, f"{rounds:04d}-{arch}", killing=True)
            self.compare(got, whole[arch], f"round {rounds}, {arch}")
            kills = {name: kills[name] + got.kills[name] for name in kills}
            minutes = (time.monotonic() - started) / 60
            told = "as it should be" if len(self.losses) == before else self.losses[-1]
            print(f"{minutes:6.1f} min  round {rounds} ({arch}): {got.kills} kills, {told}", flush=True)
            if len(self.losses) == before:
                shutil.rmtree(self.folder / f"{rounds:04d}-{arch}")
        minutes = (time.monotonic() - started) / 60
        growth = {name: self.steady(name, o.steady_minutes * 60) for name in ("train", "eval")}
        print_table(
            ["", "kills", "MB at the end", "MB / hour"],
            [[n, str(kills[n]), f"{growth[n][0]:.1f}", f"{growth[n][1]:+.1f}"] for n in kills],
        )
        print(f"{rounds} rounds in {minutes:.1f} minutes, {len(self.losses)} losses", *self.losses, sep="\n")
        if not self.losses:
            shutil.rmtree(self.folder)
        return {
            "minutes": round(minutes, 1),
            "steady_minutes": o.steady_minutes,
            "rounds": rounds,
            "kills": kills,
            "losses": self.losses,
            "held_mb": {name: round(held, 1) for name, (held, _) in growth.items()},
            "growth_mb_per_hour": {name: round(slope, 1) for name, (_, slope) in growth.items()},
        }

    def round(self, arch: str, name: str, killing: bool) -> Outcome:
        """Train and evaluate a prior, with or without kills."""
        o, own = self.options, self.folder / name
        own.mkdir()
        train, rows = own / "train", own / "eval"
        seen = {"images": 0, "rows": 0}

        def checkpoint_opens() -> None:
            newest = checkpoints(train)
            images = int(torch.load(newest[-1], weights_only=True)["state_dict"]["images_seen"]) if newest else 0
            if images < seen["images"]:
                self.losses.append(f"{name}: a checkpoint of {seen['images']} images is gone, {images} are left")
            seen["images"] = images

        def rows_are_there() -> None:
            count = len(finished_rows(rows))
            if count < seen["rows"]:
                self.losses.append(f"{name}: {seen['rows']} rows were there, {count} are left")
            seen["rows"] = count

        lives = {
            "train": self.until_done(training(arch, train, o.kimg), train, killing, checkpoint_opens),
            "eval": self.until_done(evaluation(train, rows, o.steps), rows, killing, rows_are_there),
        }
        for path in own.rglob(".*.tmp-*"):
            self.losses.append(f"{name}: {path.name} was left behind")
        kills = {which: count - 1 for which, count in lives.items()}
        return Outcome(last_state(train), finished_rows(rows), kills, lives)

    def until_done(self, words: list[str], folder: Path, killing: bool, look: Callable[[], None]) -> int:
        """Run a command, after every kill with --resume, until it ends by itself; return how often it was started."""
        for count in range(1, LIVES_AT_MOST + 1):
            resume = ["--resume"] if (folder / "settings.json").exists() else []
            seconds = 2 + self.rng.expovariate(1 / self.options.mean_life) if killing else NEVER
            life = live([*words, *resume], folder.with_suffix(".log"), seconds)
            if life.code == 0:
                return count
            if life.code is not None:
                raise RunError(f"'{words[0]}' ended with code {life.code}: see {life.output}")
            look()
        raise RunError(f"'{words[0]}' is not done after {LIVES_AT_MOST} starts: give a longer --mean_life")

    def compare(self, got: Outcome, whole: Outcome, name: str) -> None:
        """Note what differs from a round without kills."""
        for tensor in sorted(got.tensors.keys() ^ whole.tensors.keys()):
            self.losses.append(f"{name}: {tensor} is in one of the two only")
        for tensor in got.tensors.keys() & whole.tensors.keys():
            if not torch.equal(got.tensors[tensor], whole.tensors[tensor]):
                self.losses.append(f"{name}: {tensor} differs")
        if got.rows != whole.rows:
            self.losses.append(f"{name}: rows differ")

    def steady(self, name: str, seconds: float) -> tuple[float, float]:
        """Return what a command holds of memory at the end, in MB, and how much more it takes an hour."""
        own, prior = self.folder / f"steady-{name}", self.folder / "whole-stylegan2" / "train"
        words = training("stylegan2", own, 1e6)
        if name == "eval":
            words = evaluation(prior, own, 5 * self.options.steps, images=1000)  # longer than it is watched
        memory = live(words, own.with_suffix(".log"), seconds=seconds).memory
        return memory[-1][1], growth_mb_per_hour(memory)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Run this process and its children on one processor inside the ``with`` block; None is any."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(options: SoakOptions) -> dict[str, Any]:
    """Soak, and return the figures."""
    with on_core(options.core):
        return Soak(options).run()


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("soak", measure, SoakOptions, argv)
