"""``python -m benchmarks training``: what StyleGAN2's training costs, vanilla and RTIL, lazy regularisers included.

Random pictures and fresh networks (time depends on neither). Every way, a training in a tier, has a process of its own
and they take turns: one turn is a whole cycle of steps in which each lazy regulariser comes in its due proportion, from
the serving of the pictures to the moving average. Lightning's loop, logs and snapshots are left out. The floating point
operations of our mean step, at the rate of a convolution alone, say what no step on this machine can be faster than.
``--against peer-style`` also trains the networks as the published codes compute them (:mod:`benchmarks.peer_style`),
float32, vanilla and with all branches; by default with weighted cycles (:mod:`benchmarks.training_step`).
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Literal, NamedTuple

import torch

from benchmarks.convolution_rate import convolution_rates, in_units, rates_text, seconds_at
from benchmarks.frame import Recorded, print_table, run_benchmark
from benchmarks.record import Spread
from benchmarks.timing import in_turns, ratio
from benchmarks.training_step import Bench, OpTime, Turn
from benchmarks.workers import Worker
from rtil.devices import Precision, compute_dtype, pick_device
from rtil.errors import UserError
from rtil.generators.stylegan2 import RTIL_CHANNELS
from rtil.training.config import StyleGAN2Config

Training = Literal["vanilla", "sampled", "all"]
PEER = "peer-style"
SMALL_CHANNELS = {4: 128, 8: 128, 16: 128, 32: 64}
SETTINGS: dict[Training, dict[str, Any]] = {
    "vanilla": {"rtil": False},
    "sampled": {"rtil": True, "estimator": "sampled"},
    "all": {"rtil": True, "estimator": "all"},
}
PUBLISHED: dict[Training, Training] = {"vanilla": "vanilla", "sampled": "all", "all": "all"}
"""What the published codes run where ours runs one of our trainings: they know no sampled branches."""
SHOWN_OPS = 15


@dataclass
class TrainingOptions(Recorded):
    """Time StyleGAN2's training.

    Args:
        resolution: Side of the pictures in pixels.
        channels: {side: width}; null takes 128, 128, 128, 64 up to 32 px and RTIL's table above.
        batch: Images of a step; null takes 32 up to 32 px, 8 at 64 px and 16 above.
        w_dim: Entries of z and of a style row.
        mapping_layers: Depth of the mapping network.
        trainings: vanilla, sampled (RTIL, a branch per sample), all (RTIL, every branch in every step).
        tiers: Which operations run: native, ext, auto, ref (RTIL_OPS).
        precision: Type of our main phases: float32, bfloat16, or auto (bfloat16 where it is faster).
        against: peer-style also times the published codes' way of computing.
        cycle: whole, or weighted (a step of each kind, counted as often as it occurs).
        peer_cycle: The same for peer-style.
        repeats: Turns of each way.
        profile: Also print the operations of the mean step that take longest.
        limit_s: Seconds from the start behind which no other repeat begins, and phases, waits and operations are left
            out: what was measured is recorded.
        plain_cudnn: On a GPU, leave cuDNN as torch has it, in place of how a training sets it.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
    """

    resolution: int = 32
    channels: dict[int, int] | None = None
    batch: int | None = None
    w_dim: int = 512
    mapping_layers: int = 8
    trainings: list[Training] = field(default_factory=lambda: list(SETTINGS))
    tiers: list[Literal["ref", "native", "ext", "auto"]] = field(default_factory=lambda: ["native", "ext"])
    precision: Precision = "auto"
    against: Literal["peer-style"] | None = None
    cycle: Literal["whole", "weighted"] = "whole"
    peer_cycle: Literal["whole", "weighted"] = "weighted"
    repeats: int = 3
    profile: bool = False
    limit_s: float | None = None
    plain_cudnn: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, values in (("trainings", self.trainings), ("tiers", self.tiers)):
            if not values or len(set(values)) != len(values):
                raise UserError(f"{name} is {','.join(values) or 'empty'}: give each wanted one once")
        if self.repeats < 1:
            raise UserError(f"repeats is {self.repeats}: valid are numbers of 1 or more")
        config_of(self, "vanilla")


class Way(NamedTuple):
    """What is measured.

    Attributes:
        training: Which branches are trained.
        tier: Of the operations, or peer-style.
    """

    training: Training
    tier: str

    def __str__(self) -> str:
        return f"{self.training}, {self.tier}"


def ways_of(options: TrainingOptions) -> list[Way]:
    """Return everything that is to be measured."""
    ways = [Way(training, tier) for training in options.trainings for tier in options.tiers]
    if options.against is not None:
        ways += [Way(training, PEER) for training in dict.fromkeys(PUBLISHED[t] for t in options.trainings)]
    return ways


def make_bench(config: StyleGAN2Config, way: Way, weighted: bool, plain_cudnn: bool, threads: int) -> Bench:
    """Make what a way's process measures."""
    torch.set_num_threads(threads)
    bench = Bench(config, way.tier == PEER, weighted)
    if not plain_cudnn:
        bench.set_convolutions()
    return bench


def config_of(options: TrainingOptions, training: Training) -> StyleGAN2Config:
    """Return the settings of a training."""
    small = options.resolution <= max(SMALL_CHANNELS)
    batch = 32 if small else 8 if options.resolution == 64 else 16
    return StyleGAN2Config(
        resolution=options.resolution,
        channels=options.channels or (SMALL_CHANNELS if small else RTIL_CHANNELS),
        batch=batch if options.batch is None else options.batch,
        z_dim=options.w_dim,
        w_dim=options.w_dim,
        mapping_layers=options.mapping_layers,
        precision=options.precision,
        device=str(pick_device(options.device)),
        path_weight=2.0,  # StyleGAN2's own regularisers, which the reference step has, too
        style_mixing=0.9,
        **SETTINGS[training],
    )


def start(options: TrainingOptions, way: Way) -> Worker:
    """Start the process of a way."""
    weighted = (options.peer_cycle if way.tier == PEER else options.cycle) == "weighted"
    environment = {"RTIL_OPS": "native" if way.tier == PEER else way.tier, "KINETO_LOG_LEVEL": "9"}
    config, threads = config_of(options, way.training), torch.get_num_threads()
    return Worker(make_bench, environment, config, way, weighted, options.plain_cudnn, threads)


def measure(options: TrainingOptions) -> dict[str, Any]:
    """Run the benchmark; print tables and return the figures."""
    config = config_of(options, "vanilla")
    until = perf_counter() + (math.inf if options.limit_s is None else options.limit_s)
    with ExitStack() as open_workers:
        workers = {way: open_workers.enter_context(start(options, way)) for way in ways_of(options)}
        flops: dict[Way, dict[str, float]] = {way: worker.call("warm_up") for way, worker in workers.items()}
        turns: dict[Way, list[Turn]] = in_turns(
            {way: partial(worker.call, "turn") for way, worker in workers.items()},
            options.repeats,
            tell=lambda line: print(line, flush=True),
            until=until,
        )
        in_time = perf_counter() < until
        phases = {way: middle(values).phases for way, values in turns.items()}
        waits: dict[Way, dict[str, int]] = {way: {} for way in workers}
        ops: dict[Way, list[OpTime]] = {}
        if in_time:
            phases = {way: of_way or workers[way].call("phases") for way, of_way in phases.items()}
            waits = {way: worker.call("host_waits") for way, worker in workers.items()}
        else:
            print(f"out of time after {options.limit_s:g} s: phases, waits and operations are left out")
        if options.profile and in_time:
            ops = {way: worker.call("profile") for way, worker in workers.items()}
    types = sorted({dtype for of_way in flops.values() for dtype in of_way})
    rates = convolution_rates(types, torch.device(config.device))
    print_turns(turns)
    print_phases(phases)
    print_bounds(flops, rates)
    ratios = ratios_of(turns)
    for name, spread in ratios.items():
        print(f"{name}: {spread}")
    for way, places in waits.items():
        if places:
            found = ", ".join(f"{place} {count}" for place, count in places.items())
            print(f"{way}: the host waits for the GPU {sum(places.values())} times in a plain step: {found}")
    for way, found_ops in ops.items():
        seconds_per_step = config.batch * Spread.of([turn.seconds_per_image for turn in turns[way]]).median
        print_ops(way, found_ops, seconds_per_step)
    return {
        "device": config.device,
        "resolution": config.resolution,
        "channels": config.to_json()["channels"],
        "batch": config.batch,
        "w_dim": options.w_dim,
        "mapping_layers": options.mapping_layers,
        "precision": {
            "ours": str(compute_dtype(options.precision, torch.device(config.device))).removeprefix("torch."),
            PEER: "float32",
        },
        "cycle": {"ours": options.cycle, PEER: options.peer_cycle},
        "plain_cudnn": options.plain_cudnn,
        "repeats": min(map(len, turns.values())),
        "convolution_tflop_per_s": in_units(rates, 1e12),
        "runs": [
            figures_of(way, values, phases[way], waits[way], ops.get(way)) | bound_of(flops[way], rates)
            for way, values in turns.items()
        ],
        "ratios": {name: spread.as_json() for name, spread in ratios.items()},
    }


def middle(turns: Sequence[Turn]) -> Turn:
    """Return the turn of median speed, the slower one of two."""
    return sorted(turns, key=lambda turn: turn.seconds_per_image)[len(turns) // 2]


def print_turns(turns: Mapping[Way, Sequence[Turn]]) -> None:
    """Print a row for each way."""
    rows = []
    for way, values in turns.items():
        rate = Spread.of([1 / turn.seconds_per_image for turn in values])
        kimg = Spread.of([1000 * turn.seconds_per_image for turn in values])
        rows.append([str(way), str(rate), str(kimg), f"{max(turn.peak_mb for turn in values):.0f}"])
    print_table(["", "images/s", "s/kimg", "peak MB"], rows)


def print_phases(phases: Mapping[Way, Mapping[str, float]]) -> None:
    """Print milliseconds per step by phase, a column for each."""
    names = list(dict.fromkeys(name for of_way in phases.values() for name in of_way))
    rows = [[str(way), *(f"{1e3 * of_way.get(name, 0):.3g}" for name in names)] for way, of_way in phases.items()]
    print_table(["ms per step", *names], rows)


def print_bounds(flops: Mapping[Way, Mapping[str, float]], rates: Mapping[str, float]) -> None:
    """Print floating point operations an image, by type, and how many images a second they allow at most."""
    print(rates_text(rates))
    rows = []
    for way, of_way in flops.items():
        if of_way:
            bound = bound_of(of_way, rates)
            by_type = [f"{bound['gflop_per_image'].get(dtype, 0):.3g}" for dtype in rates]
            most = f"{bound['images_per_s_of_convolutions']:.3g}"
            rows.append([str(way), f"{sum(of_way.values()) / 1e9:.3g}", *by_type, most])
    if rows:
        print_table(["GFLOP an image", "all", *rates, "images/s at the rate of a convolution"], rows)


def bound_of(flops: Mapping[str, float], rates: Mapping[str, float]) -> dict[str, Any]:
    """Return the floating point operations an image and what they allow at most as JSON values; none uncounted."""
    if not flops:
        return {}
    most = 1 / seconds_at(rates, flops)
    return {"gflop_per_image": in_units(flops, 1e9), "images_per_s_of_convolutions": float(f"{most:.4g}")}


def print_ops(way: Way, ops: Sequence[OpTime], step_seconds: float) -> None:
    """Print the longest operations of a step, and how much of it all operations together are."""
    total = sum(op.seconds for op in ops)
    print(f"{way}: operations of the mean step, {total / step_seconds:.0%} of its {1e3 * step_seconds:.4g} ms")
    rows = [
        [op.name, f"{op.calls:.1f}", f"{1e3 * op.seconds:.2f}", f"{op.seconds / total:.1%}"] for op in ops[:SHOWN_OPS]
    ]
    print_table(["operation", "calls", "ms", "share"], rows)


def ratios_of(turns: Mapping[Way, Sequence[Turn]]) -> dict[str, Spread]:
    """Return how much faster ours is than peer-style, tiers among each other, and what RTIL costs beside vanilla."""
    seconds = {way: [turn.seconds_per_image for turn in values] for way, values in turns.items()}
    tiers = list(dict.fromkeys(way.tier for way in seconds if way.tier != PEER))
    found = {}
    for way, ours in seconds.items():
        if way.training != "vanilla" and (vanilla := Way("vanilla", way.tier)) in seconds:
            found[f"{way}: cost of an image, vanilla = 1"] = ratio(ours, seconds[vanilla])
        if way.tier == PEER:
            continue
        if way.tier != tiers[0] and (first := Way(way.training, tiers[0])) in seconds:
            found[f"{way} against {tiers[0]}: times faster"] = ratio(seconds[first], ours)
        if (peer := Way(PUBLISHED[way.training], PEER)) in seconds:
            found[f"{way} against {peer}: times faster"] = ratio(seconds[peer], ours)
    return found


def figures_of(
    way: Way,
    turns: Sequence[Turn],
    phases: Mapping[str, float],
    waits: Mapping[str, int],
    ops: Sequence[OpTime] | None,
) -> dict[str, Any]:
    """Return the figures of one way as JSON values."""
    figures: dict[str, Any] = {
        "training": way.training,
        "tier": way.tier,
        "images_per_s": Spread.of([1 / turn.seconds_per_image for turn in turns]).as_json(),
        "s_per_kimg": Spread.of([1000 * turn.seconds_per_image for turn in turns]).as_json(),
        "peak_mb": round(max(turn.peak_mb for turn in turns)),
        "ms_per_step_by_phase": {name: float(f"{1e3 * spent:.4g}") for name, spent in phases.items()},
        "host_waits": dict(waits),
    }
    if ops is not None:
        figures["ms_per_step_by_operation"] = {
            op.name: {"ms": float(f"{1e3 * op.seconds:.4g}"), "calls": float(f"{op.calls:.4g}")}
            for op in ops[:SHOWN_OPS]
        }
    return figures


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("training", measure, TrainingOptions, argv)
