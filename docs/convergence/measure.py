"""``python -m docs.convergence``: error against seconds (ILO, ICML 2021, figures 6 and 7).

ILO with a fixed number of steps a round, and CSGM, reconstruct held-out pictures; at every tenth step the mean squared
error and LPIPS of the current iterate against the truth are noted. Only this plot uses the truth: the solvers never see
it. The time that looking takes is not counted. ILO of fewer rounds is the beginning of the same run, so one run with
all rounds gives the curves of 1, 2, 3, ... rounds; its first round alone is CSGM. The paper's figures are of the task
``inversion``, where all of the picture is measured.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from benchmarks.machine import describe
from docs.convergence.curve_file import CHECKPOINT, CurveFile, Key, Looks
from docs.convergence.report import Curve, Point, draw, print_summary, run_name, summary
from ilo import ILO
from ilo.settings import ILOSettings
from rtil.cli.common import Prepared, run_command
from rtil.devices import compute_dtype, pick_device, wait_for
from rtil.errors import UserError
from rtil.evaluation.candidates import HeldOut
from rtil.evaluation.conditions import conditions
from rtil.evaluation.held_out import heldout_pictures, heldout_source
from rtil.evaluation.metrics import Metrics
from rtil.inverse.latent_space import latent_space_of
from rtil.inverse.operators import Operator
from rtil.inverse.settings import Selection
from rtil.layout import LpipsNet
from rtil.precision import Precision
from rtil.runs import new_run
from rtil.snapshot import Snapshot, load_snapshot

RUNS = Path("runs/convergence")
CHART = "convergence.png"
LPIPS_NET: LpipsNet = "alex"
MACHINE = ("cpu", "gpus", "threads", "torch", "ops")
"""What of the machine must be the same where seconds are compared."""

Judge = Callable[[Tensor], tuple[float, float | None]]
"""Gives mean squared error and LPIPS of pictures [N, 3, R, R] in [0, 1]."""


@dataclass
class ConvergenceOptions:
    """Follow the error of ILO and CSGM over time.

    Args:
        checkpoints: name=PATH, once or more, each a run folder or a snapshot, of one resolution.
        data: Held-out set: synthetic, or a folder or uncompressed zip; null is that of the checkpoints.
        split: Its part: validation or test; null is all of a set that was not trained on.
        images: Number of held-out pictures, in one batch.
        task: inversion (the paper's), cs, or inpaint.
        rate: Observed fraction of cs and inpaint.
        ilo_steps: Steps of each of ILO's rounds; each number is a run.
        rounds: ILO's rounds; null is 4, or as many as the generator has blocks.
        csgm_steps: Steps of CSGM; each number is a run, the largest the reference.
        every: Steps between two looks.
        selection: Which iterate a round continues from: measurement (lowest measurement error), heldout, last.
        repeats: How often each run is timed, in turns; the median counts.
        seed: Root seed of operator and solvers.
        precision: Type of the layers: float32, bfloat16, or auto (bfloat16 where it is faster).
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
        out: Folder of the curves and the chart; null is the next numbered one in runs/convergence. In one that holds
            curves of the same settings, only the missing runs are made.
    """

    checkpoints: dict[str, str] = field(default_factory=dict)
    data: str | None = None
    split: HeldOut | None = None
    images: int = 32
    task: Literal["inversion", "cs", "inpaint"] = "cs"
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


class Errors:
    """Judges pictures against the truth by the mean over all of them, each counting alike.

    Args:
        truth: [N, 3, R, R] in [0, 1].
        metrics: Gives LPIPS, if its weights are on this machine; without them there is the squared error alone.
    """

    def __init__(self, truth: Tensor, metrics: Metrics) -> None:
        self.truth, self.metrics = truth, metrics

    def __call__(self, x: Tensor) -> tuple[float, float | None]:
        """Return mean squared error and LPIPS, if there is one, of [N, 3, R, R] in [0, 1]."""
        lpips = None
        if self.metrics.lpips_network is not None:
            lpips = float(self.metrics(x, self.truth)["lpips"].mean())
        return mean_squared_error(x, self.truth), lpips


class Watch:
    """Notes the errors of iterates; a solver's callback.

    Args:
        errors: Of pictures.
        operator: The operator; iterates are taken as they would be returned, after its ``consistent`` step.
        y: Measurements.
        steps: Of each round.
        every: Steps between two looks; the last iterate of a round is seen too.
    """

    def __init__(self, errors: Judge, operator: Operator, y: Tensor, steps: Sequence[int], every: int) -> None:
        self.errors, self.operator, self.y = errors, operator, y
        self.steps, self.every = tuple(steps), every
        self.points: list[Point] = []
        self.looking = 0.0
        wait_for(y.device)
        self.started = time.perf_counter()

    def __call__(self, round_number: int, step: int, x: Tensor) -> None:
        """Look at one iterate, or not."""
        if step % self.every and step != self.steps[round_number]:
            return
        wait_for(x.device)
        now = time.perf_counter()
        seconds = now - self.started - self.looking
        errors = self.errors(self.operator.consistent(x, self.y))
        self.points.append(Point(round_number, sum(self.steps[:round_number]) + step, seconds, *errors))
        self.looking += time.perf_counter() - now


def mean_squared_error(x: Tensor, truth: Tensor) -> float:
    """Return the squared error, not clamped, over all entries of all pictures."""
    return float((x - truth).square().mean())


def follow(solver: ILO, operator: Operator, errors: Errors, ids: Sequence[str], every: int) -> Looks:
    """Reconstruct pictures; return all looks at the iterates, and what each round returned."""
    y = operator(errors.truth, ids)
    watch = Watch(errors, operator, y, solver.rounds.rounds(), every)
    found = solver.invert(y, operator, ids, callback=watch)
    ends = {point.round: point for point in watch.points}
    return Looks(watch.points, [Point(*ends[k][:3], *errors(x)) for k, x in enumerate(found.rounds)])


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


def open_measurement(options: ConvergenceOptions) -> Prepared:
    """Open checkpoints, pictures and the file of curves; then all runs are followed, curves and chart written."""
    device = pick_device(options.device)
    checkpoints = {name: load_snapshot(Path(path), device) for name, path in options.checkpoints.items()}
    sides = {snapshot.generator.resolution for snapshot in checkpoints.values()}
    if len(sides) > 1:
        raise UserError(f"checkpoints have {len(sides)} resolutions: compare those of one")
    source, split = heldout_source([s.info for s in checkpoints.values()], options.data, options.split)
    side = sides.pop()
    pictures = heldout_pictures(source, side, split, options.images)
    (condition,) = conditions([options.task], [options.rate], [], [])
    operator = condition.operator(side, options.seed).to(device)
    runs = {name: runs_of(options, snapshot.generator.num_blocks) for name, snapshot in checkpoints.items()}
    errors = Errors((pictures.images.float() / 255).to(device), Metrics(LPIPS_NET, device))
    here = describe()
    facts = {
        "task": condition.task,
        "rate": condition.level,
        "images": options.images,
        "resolution": side,
        "selection": options.selection,
        "seed": options.seed,
        "lpips": None if errors.metrics.lpips_network is None else LPIPS_NET,
        "pictures": hashlib.sha256(pictures.images.numpy().tobytes()).hexdigest()[:12],
        "every": options.every,
        "precision": str(compute_dtype(options.precision, device)).removeprefix("torch."),
        "device": str(device),
        **{name: here[name] for name in MACHINE},
        **{f"{CHECKPOINT}{name}": snapshot.weight_hash for name, snapshot in checkpoints.items()},
    }
    given = None if options.out is None else CurveFile(options.out, facts)

    def measure() -> None:
        file = given or CurveFile(new_run(RUNS, f"convergence-{condition.task}-{side}"), facts)
        curves = []
        for name, snapshot in checkpoints.items():
            follow_missing(options, file, name, snapshot, runs[name], operator, errors, pictures.keys)
            curves += [curve_of(file, name, method, steps, options.repeats) for method, steps in runs[name]]
        chart = file.path.parent / CHART
        draw(curves, chart, f"{operator.label}, {options.images} pictures, {side} px")
        print_summary(summary(curves))
        print(f"curves: {file.path}\nchart: {chart}")

    told = [f"{name}: {method} {steps}" for name, of_one in runs.items() for method, steps in of_one]
    return Prepared(told, measure)


def follow_missing(
    options: ConvergenceOptions,
    file: CurveFile,
    checkpoint: str,
    snapshot: Snapshot,
    runs: Sequence[tuple[str, tuple[int, ...]]],
    operator: Operator,
    errors: Errors,
    ids: Sequence[str],
) -> None:
    """Follow every run of a checkpoint that the file lacks, all in turns, after a short one to warm up."""
    missing = {
        key: steps
        for repeat in range(options.repeats)
        for method, steps in runs
        if (key := Key(checkpoint, run_name(method, steps), repeat)) not in file.looks
    }
    if not missing:
        return
    latent_space_of(snapshot.generator)  # its Gaussian fit is kept from here on

    def solver(steps: Sequence[int]) -> ILO:
        settings = ILOSettings(steps=tuple(steps), selection=options.selection, precision=options.precision)
        return ILO(snapshot.generator, settings, seed=options.seed)

    follow(solver([1] * max(map(len, missing.values()))), operator, errors, ids, options.every)
    for key, steps in missing.items():
        looks = follow(solver(steps), operator, errors, ids, options.every)
        file.add(key, looks)
        end = looks.rounds[-1]
        lpips = "" if end.lpips is None else f"lpips {end.lpips:.4g}, "
        print(
            f"{checkpoint}, {key.run}, repeat {key.repeat + 1}: mse {end.mse:.4g}, {lpips}{end.seconds:.1f} s",
            flush=True,
        )


def curve_of(file: CurveFile, checkpoint: str, method: str, steps: tuple[int, ...], repeats: int) -> Curve:
    """Return a run's curve, with the median of its repeats' seconds."""
    name = run_name(method, steps)
    found = [file.looks[Key(checkpoint, name, repeat)] for repeat in range(repeats)]
    points = with_median_seconds([looks.points for looks in found])
    return Curve(checkpoint, method, steps, points, with_median_seconds([looks.rounds for looks in found]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_measurement, ConvergenceOptions, argv, "python -m docs.convergence")
