"""``python -m benchmarks convergence``: error against seconds (ILO, ICML 2021, figures 6 and 7).

ILO with a fixed number of steps a round, and CSGM, reconstruct held-out pictures; at every tenth step the mean squared
error of the current iterate against the truth is noted. Only this plot uses the truth: the solvers never see it. The
time that looking takes is not counted. ILO of fewer rounds is the beginning of the same run, so one run with all rounds
gives the curves of 1, 2, 3, ... rounds; its first round alone is CSGM.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.convergence_report import Curve, Point, draw, print_summary, summary, write_curves
from benchmarks.frame import Recorded, run_benchmark
from ilo import ILO
from rtil.devices import Precision, pick_device, wait_for
from rtil.errors import UserError
from rtil.evaluation.study import HeldOut, Place, heldout_pictures, heldout_source
from rtil.inverse.latents import latent_space_of
from rtil.inverse.operators import Operator
from rtil.inverse.solver import Selection
from rtil.runs import new_run
from rtil.snapshot import Snapshot, load_snapshot

RUNS = Path("runs/benchmarks")
CURVES, CHART = "convergence.csv", "convergence.png"


@dataclass
class ConvergenceOptions(Recorded):
    """Follow the error of ILO and CSGM over time.

    Args:
        checkpoints: name=PATH, once or more, each a run folder or a snapshot, of one resolution.
        data: Held-out set: synthetic, or a folder or uncompressed zip; null is that of the checkpoints.
        split: Its part: validation or test; null is all of a set that was not trained on.
        images: Number of held-out pictures, in one batch.
        task: cs, or inpaint.
        rate: Observed fraction.
        ilo_steps: Steps of each of ILO's rounds; each number is a run.
        rounds: ILO's rounds; null is 4, or as many as the generator has blocks.
        csgm_steps: Steps of CSGM; each number is a run, the largest the reference.
        every: Steps between two looks.
        selection: Which iterate a round continues from: measurement (lowest measurement error), heldout, last.
        repeats: How often each run is timed, in turns; the median counts.
        seed: Root seed of operator and solvers.
        precision: Type of the layers: float32, bfloat16, or auto (bfloat16 where it is faster).
        device: auto, cpu, cuda or cuda:N.
        out: Folder of the curves and the chart; null is the next numbered one in runs/benchmarks.
    """

    checkpoints: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    split: HeldOut | None = None
    images: int = 16
    task: Literal["cs", "inpaint"] = "cs"
    rate: float = 0.1
    ilo_steps: list[int] = field(default_factory=lambda: [300, 50])
    rounds: int | None = None
    csgm_steps: list[int] = field(default_factory=lambda: [300, 600, 1000])
    every: int = 10
    selection: Selection = "measurement"
    repeats: int = 1
    seed: int = 0
    precision: Precision = "auto"
    device: str = "auto"
    out: Path | None = None

    def __post_init__(self) -> None:
        if not self.checkpoints:
            raise UserError("checkpoints is empty: give --checkpoints name=PATH, once or more")
        counts = {"ilo_steps": self.ilo_steps, "csgm_steps": self.csgm_steps}
        counts |= {
            "every": [self.every],
            "repeats": [self.repeats],
            "rounds": [1 if self.rounds is None else self.rounds],
        }
        for name, values in counts.items():
            if not values or min(values) < 1 or len(set(values)) != len(values):
                given = ",".join(map(str, values)) or "empty"
                raise UserError(f"{name} is {given}: valid are whole numbers of 1 or more, each once")
        if self.out is not None and (self.out / CURVES).exists():
            raise UserError(f"{self.out} holds curves already: give another --out")


class Watch:
    """Notes the error of iterates against the truth; a solver's callback.

    Args:
        truth: [N, 3, R, R] in [0, 1].
        operator: The operator; iterates are taken as they would be returned, after its ``consistent`` step.
        y: Measurements.
        steps: Of each round.
        every: Steps between two looks; the last iterate of a round is seen too.
    """

    def __init__(self, truth: Tensor, operator: Operator, y: Tensor, steps: Sequence[int], every: int) -> None:
        self.truth, self.operator, self.y = truth, operator, y
        self.steps, self.every = tuple(steps), every
        self.points: list[Point] = []
        self.looking = 0.0
        wait_for(truth.device)
        self.started = time.perf_counter()

    def __call__(self, round_number: int, step: int, x: Tensor) -> None:
        """Look at one iterate, or not."""
        if step % self.every and step != self.steps[round_number]:
            return
        wait_for(x.device)
        now = time.perf_counter()
        seconds = now - self.started - self.looking
        mse = mean_squared_error(self.operator.consistent(x, self.y), self.truth)
        self.points.append(Point(round_number, sum(self.steps[:round_number]) + step, seconds, mse))
        self.looking += time.perf_counter() - now


def mean_squared_error(x: Tensor, truth: Tensor) -> float:
    """Return the error of all images together; every one counts alike."""
    return float((x - truth).square().mean())


def follow(solver: ILO, operator: Operator, truth: Tensor, ids: Sequence[str], every: int) -> list[list[Point]]:
    """Reconstruct pictures; return all looks at the iterates, and what each round returned."""
    y = operator(truth, ids)
    watch = Watch(truth, operator, y, solver.steps, every)
    found = solver.invert(y, operator, ids, callback=watch)
    ends = {point.round: point for point in watch.points}
    rounds = [ends[k]._replace(mse=mean_squared_error(x, truth)) for k, x in enumerate(found.rounds)]
    return [watch.points, rounds]


def with_median_seconds(repeats: Sequence[list[Point]]) -> list[Point]:
    """Return the points of repeated runs of the same steps with the median of their seconds."""
    seconds = torch.tensor([[p.seconds for p in points] for points in repeats], dtype=torch.float64).quantile(0.5, 0)
    return [point._replace(seconds=float(s)) for point, s in zip(repeats[0], seconds, strict=True)]


def runs_of(options: ConvergenceOptions, num_blocks: int) -> list[tuple[str, tuple[int, ...]]]:
    """Return method and steps of every run for a generator of so many blocks.

    Raises:
        UserError: It has fewer blocks than rounds are wanted.
    """
    rounds = min(4, num_blocks) if options.rounds is None else options.rounds
    if rounds > num_blocks:
        raise UserError(f"rounds is {rounds}: a generator of {num_blocks} blocks allows {num_blocks}")
    return [("csgm", (count,)) for count in options.csgm_steps] + [("ilo", (c,) * rounds) for c in options.ilo_steps]


def measure(options: ConvergenceOptions) -> dict[str, Any]:
    """Run the benchmark; write curves and chart, print the table and return the figures."""
    device = pick_device(options.device)
    checkpoints = {name: load_snapshot(Path(path), device) for name, path in options.checkpoints.items()}
    sides = {snapshot.generator.resolution for snapshot in checkpoints.values()}
    if len(sides) > 1:
        raise UserError(f"checkpoints have {len(sides)} resolutions: compare those of one")
    source, split = heldout_source([s.info for s in checkpoints.values()], options.data, options.split)
    side = sides.pop()
    pictures = heldout_pictures(source, side, split, options.images)
    truth = (pictures.images.float() / 255).to(device)
    operator = Place(options.task, options.rate, {"rate": options.rate}).operator(side, options.seed).to(device)
    runs = {name: runs_of(options, snapshot.generator.num_blocks) for name, snapshot in checkpoints.items()}
    folder = options.out or new_run(RUNS, f"convergence-{options.task}-{side}")
    curves = []
    for name, snapshot in checkpoints.items():
        curves += follow_all(options, name, snapshot, runs[name], operator, truth, pictures.keys)
    write_curves(curves, folder / CURVES)
    draw(curves, folder / CHART, f"{operator.label}, {options.images} pictures, {side} px")
    rows = summary(curves)
    print_summary(rows)
    print(f"curves: {folder / CURVES}\nchart: {folder / CHART}")
    return {
        "task": options.task,
        "rate": options.rate,
        "images": options.images,
        "resolution": side,
        "split": split,
        "selection": options.selection,
        "repeats": options.repeats,
        "seed": options.seed,
        "checkpoints": {name: {"weight_hash": s.weight_hash, **trained(s)} for name, s in checkpoints.items()},
        "runs": rows,
    }


def trained(snapshot: Snapshot) -> dict[str, Any]:
    """Return what a row says of a checkpoint's training."""
    return {name: snapshot.info[name] for name in ("arch", "rtil", "kimg") if name in snapshot.info}


def follow_all(
    options: ConvergenceOptions,
    checkpoint: str,
    snapshot: Snapshot,
    runs: Sequence[tuple[str, tuple[int, ...]]],
    operator: Operator,
    truth: Tensor,
    ids: Sequence[str],
) -> list[Curve]:
    """Follow every run of a checkpoint, all in turns, after a short one to warm up."""
    latent_space_of(snapshot.generator)  # its Gaussian fit is kept from here on

    def solver(steps: Sequence[int]) -> ILO:
        return ILO(
            snapshot.generator, steps, selection=options.selection, seed=options.seed, precision=options.precision
        )

    longest = max((steps for _, steps in runs), key=len)
    follow(solver([1] * len(longest)), operator, truth, ids, options.every)
    found: list[list[list[list[Point]]]] = [[] for _ in runs]
    for repeat in range(options.repeats):
        for of_run, (method, steps) in zip(found, runs, strict=True):
            of_run.append(follow(solver(steps), operator, truth, ids, options.every))
            end = of_run[-1][1][-1]
            name = Curve(checkpoint, method, steps, [], []).label()
            print(f"{checkpoint}, {name}, repeat {repeat + 1}: mse {end.mse:.4g}, {end.seconds:.1f} s", flush=True)
    curves = []
    for (method, steps), repeats in zip(runs, found, strict=True):
        points, ends = (with_median_seconds([r[i] for r in repeats]) for i in (0, 1))
        curves.append(Curve(checkpoint, method, steps, points, ends))
    return curves


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("convergence", measure, ConvergenceOptions, argv)
