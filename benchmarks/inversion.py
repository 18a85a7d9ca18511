"""``python -m benchmarks inversion``: what a step of ILO costs, at each cut and for batches of images.

A StyleGAN2 generator with random weights (time does not depend on them) and random pictures; compressed sensing, or
inpainting with or without a perceptual term. Each run is a whole schedule; inside it the steps of each round are timed
apart. The floating point operations of our steps, at the rate of a convolution alone, say what no step on this machine
can be faster than; on a GPU it is also counted how often a step makes the host wait. ``--against peer-style`` runs, in
turns with ours, ILO as its published code computes it (:mod:`benchmarks.peer_ilo`), on the same weights.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from benchmarks import peer_ilo
from benchmarks.convolution_rate import convolution_rates, in_units, rates_text, seconds_at
from benchmarks.counts import SecondSteps, flops, host_waits
from benchmarks.frame import Recorded, print_table, run_benchmark
from benchmarks.peer_style import PeerGenerator
from benchmarks.record import Spread
from benchmarks.timing import StepClock, in_turns, ratio, seconds_of
from ilo import ILO
from ilo.settings import ILOSettings
from rtil import seeds
from rtil.devices import compute_dtype, pick_device
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.latent_space import latent_space_of
from rtil.inverse.operators import Operator, make_operator
from rtil.inverse.operators.circulant import PartialCirculant
from rtil.inverse.settings import PerceptualChoice
from rtil.precision import Precision
from rtil.ranges import to_signed
from rtil.training.config import DEFAULT_CHANNELS
from rtil.weights import load_lpips

OURS, PEER = "ours", "peer-style"
NOISE_STRENGTH = 0.1


@dataclass
class InversionOptions(Recorded):
    """Time ILO on a StyleGAN2 generator with random weights.

    Args:
        resolution: Side of the pictures in pixels.
        channels: {side: width} for sides from 4 to the resolution; null takes the training defaults.
        w_dim: Entries of a style row.
        mapping_layers: Depth of the mapping network, which no step runs.
        batches: Images at a time; each is measured.
        steps: Steps of the rounds at the input and at cuts 1, 2, 3.
        task: cs, or inpaint.
        rate: Observed fraction.
        perceptual: Perceptual term of inpaint: lpips, vgg or none.
        precision: Type of our layers: float32, bfloat16, or auto (bfloat16 where it is faster).
        against: peer-style also times the published code's way of computing, in float32.
        repeats: How often each way is measured.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
    """

    resolution: int = 32
    channels: dict[int, int] | None = None
    w_dim: int = 512
    mapping_layers: int = 8
    batches: list[int] = field(default_factory=lambda: [1, 16, 64])
    steps: list[int] = field(default_factory=lambda: [100, 60, 60, 100])
    task: Literal["cs", "inpaint"] = "cs"
    rate: float = 0.1
    perceptual: PerceptualChoice = "none"
    precision: Precision = "auto"
    against: Literal["peer-style"] | None = None
    repeats: int = 3
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, values in (("batches", self.batches), ("steps", self.steps), ("repeats", [self.repeats])):
            if not values or min(values) < 1:
                raise UserError(f"{name} is {','.join(map(str, values)) or 'empty'}: valid are numbers of 1 or more")
        if self.perceptual != "none" and self.task == "cs":
            raise UserError("a perceptual term compares pictures, and cs measures none: add --task inpaint")
        if self.perceptual == "vgg" and self.against is not None:
            raise UserError("the published ILO code has no vgg term: use --perceptual lpips or none with --against")


class Sample(NamedTuple):
    """One run of the schedule.

    Attributes:
        seconds: All of it.
        of_step: Seconds of a step, by round.
    """

    seconds: float
    of_step: dict[int, float]


class Way(NamedTuple):
    """What is measured."""

    name: str
    batch: int

    def __str__(self) -> str:
        return f"{self.name}, batch {self.batch}"


Run = Callable[[Callable[..., None]], object]
"""Runs a schedule, and calls back with (round, step) for every iterate."""


class Bench:
    """Networks and measurements of one run of the benchmark.

    Args:
        options: Its options.
    """

    def __init__(self, options: InversionOptions) -> None:
        self.options, self.device = options, pick_device(options.device)
        self.generator = random_generator(options).to(self.device)
        if len(options.steps) > self.generator.num_blocks:
            raise UserError(
                f"steps has {len(options.steps)} rounds: a {options.resolution} px generator allows "
                f"{self.generator.num_blocks}"
            )
        self.dtype = compute_dtype(options.precision, self.device)
        side = options.resolution
        self.operator: Operator = make_operator(options.task, (3, side, side), rate=options.rate).to(self.device)
        self.latents = latent_space_of(self.generator)
        self.peer = None if options.against is None else PeerGenerator.of(self.generator)
        lpips = None if self.peer is None or options.perceptual == "none" else load_lpips("vgg")
        self.peer_lpips = None if lpips is None else lpips.to(self.device)

    def runs(self, steps: Sequence[int]) -> dict[Way, Run]:
        """Return what to measure, with these steps a round."""
        found: dict[Way, Run] = {}
        for batch in self.options.batches:
            side = self.options.resolution
            x = torch.rand(batch, 3, side, side, generator=seeds.generator(0, "benchmark/pictures")).to(self.device)
            found[Way(OURS, batch)] = self._ours(x, steps)
            if self.peer is not None:
                found[Way(PEER, batch)] = self._peers(x, steps, self.peer)
        return found

    def time(self, run: Run, steps: Sequence[int]) -> Sample:
        """Run a schedule of these steps and return its times."""
        clock = StepClock(steps, self.device)
        return Sample(seconds_of(lambda: run(clock), self.device), clock.seconds)

    def _ours(self, x: Tensor, steps: Sequence[int]) -> Run:
        options = self.options
        settings = ILOSettings(steps=tuple(steps), precision=options.precision, perceptual=options.perceptual)
        solver = ILO(self.generator, settings)
        y = self.operator(x)
        return lambda callback: solver.invert(y, self.operator, callback=callback)

    def _peers(self, x: Tensor, steps: Sequence[int], peer: PeerGenerator) -> Run:
        if isinstance(self.operator, PartialCirculant):
            loss = peer_ilo.compressed_sensing_loss(self.operator, to_signed(x))
        else:
            mask = self.operator.observed.float()
            loss = peer_ilo.inpainting_loss(mask, to_signed(x) * mask, self.peer_lpips)
        return lambda callback: peer_ilo.invert(peer, self.latents, loss, len(x), steps, callback)


def random_generator(options: InversionOptions) -> StyleGAN2Generator:
    """Return a generator with random weights, the same for the same options."""
    channels = options.channels or {s: c for s, c in DEFAULT_CHANNELS.items() if s <= options.resolution}
    with torch.random.fork_rng(devices=[]):  # nn.init draws from the global generator
        torch.manual_seed(0)
        G = StyleGAN2Generator(options.resolution, channels, options.w_dim, options.w_dim, options.mapping_layers)
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):  # 0 at the start of training, when noise maps get no gradient
            parameter.data.fill_(NOISE_STRENGTH)
    return G


def measure(options: InversionOptions) -> dict[str, Any]:
    """Run the benchmark; print tables and return the figures."""
    bench = Bench(options)
    short = bench.runs([SecondSteps.STEPS] * len(options.steps))
    work = {way: flops_of_steps(run) for way, run in short.items() if way.name == OURS}  # warms up, too
    for way, run in short.items():
        if way.name == PEER:
            run(lambda *_: None)
    samples = in_turns(
        {way: partial(bench.time, run, options.steps) for way, run in bench.runs(options.steps).items()},
        options.repeats,
        tell=lambda line: print(line, flush=True),
    )
    waits = {way: waits_of_steps(run, bench.device, len(options.steps)) for way, run in short.items()}
    types = sorted({dtype for of_way in work.values() for of_step in of_way for dtype in of_step})
    rates = convolution_rates(types, bench.device)
    print_steps(options, samples)
    print_bounds(work, rates)
    ratios = ratios_of(samples)
    for name, spread in ratios.items():
        print(f"{name}: {spread}")
    print_waits(waits)
    return {
        "device": str(bench.device),
        "resolution": options.resolution,
        "channels": {str(side): width for side, width in bench.generator.channels.items()},
        "w_dim": options.w_dim,
        "task": options.task,
        "rate": options.rate,
        "perceptual": options.perceptual,
        "precision": {OURS: str(bench.dtype).removeprefix("torch."), PEER: "float32"},
        "steps": options.steps,
        "repeats": options.repeats,
        "convolution_tflop_per_s": in_units(rates, 1e12),
        "runs": [
            figures_of(way, values, sum(options.steps), waits[way]) | bounds_of(work.get(way, []), rates)
            for way, values in samples.items()
        ],
        "ratios": {name: spread.as_json() for name, spread in ratios.items()},
    }


def flops_of_steps(run: Run) -> list[Counter[str]]:
    """Run a short schedule and return the floating point operations, by type, of a step at each cut."""
    steps = SecondSteps(flops)
    run(steps)
    return steps.rounds


def waits_of_steps(run: Run, device: torch.device, rounds: int) -> list[Counter[str]]:
    """Run a short schedule and return where a step at each cut makes the host wait for a GPU, and how often."""
    steps = SecondSteps(partial(host_waits, device))
    if device.type == "cuda":
        run(steps)
    return steps.rounds or [Counter() for _ in range(rounds)]


def print_steps(options: InversionOptions, samples: Mapping[Way, Sequence[Sample]]) -> None:
    """Print a row for each way: its rate over the whole schedule and its seconds per step at each cut."""
    rounds = range(len(options.steps))
    rows = []
    for way, values in samples.items():
        rate = Spread.of([sum(options.steps) / sample.seconds for sample in values])
        at_cut = [Spread.of([sample.of_step[k] for sample in values]).median for k in rounds]
        per_image = Spread.of([sample.seconds for sample in values]).median / sum(options.steps) / way.batch
        rows.append([str(way), str(rate), f"{per_image:.3g}", *(f"{s:.3g}" for s in at_cut)])
    print_table(["", "steps/s", "s/step/image", *(f"s/step, cut {k}" for k in rounds)], rows)


def print_bounds(work: Mapping[Way, Sequence[Mapping[str, float]]], rates: Mapping[str, float]) -> None:
    """Print the floating point operations of a step at each cut, and how long they take at least."""
    print(rates_text(rates))
    rows = []
    for way, steps in work.items():
        gflop = [f"{sum(of_step.values()) / 1e9:.3g}" for of_step in steps]
        rows.append([str(way), *gflop, *(f"{seconds_at(rates, of_step):.3g}" for of_step in steps)])
    cuts = range(len(rows[0]) // 2)
    head = [*(f"GFLOP/step, cut {k}" for k in cuts), *(f"s/step, cut {k}" for k in cuts)]
    print_table(["at the rate of a convolution", *head], rows)


def print_waits(waits: Mapping[Way, Sequence[Counter[str]]]) -> None:
    """Print where steps make the host wait for a GPU."""
    for way, steps in waits.items():
        for k, places in enumerate(steps):
            if places:
                found = ", ".join(f"{place} {count}" for place, count in places.most_common())
                print(f"{way}: the host waits for the GPU {places.total()} times in a step at cut {k}: {found}")


def bounds_of(work: Sequence[Mapping[str, float]], rates: Mapping[str, float]) -> dict[str, Any]:
    """Return the floating point operations of a way's steps, at each cut, as JSON values; none uncounted."""
    if not work:
        return {}
    return {
        "gflop_per_step_by_cut": [in_units(of_step, 1e9) for of_step in work],
        "s_per_step_of_convolutions_by_cut": [float(f"{seconds_at(rates, of_step):.4g}") for of_step in work],
    }


def ratios_of(samples: Mapping[Way, Sequence[Sample]]) -> dict[str, Spread]:
    """Return what a batch costs beside its smallest, and how much faster ours is, over whole schedules."""
    seconds = {way: [sample.seconds for sample in values] for way, values in samples.items()}
    found = {}
    for name in dict.fromkeys(way.name for way in seconds):
        least, *larger = sorted(way for way in seconds if way.name == name)
        for way in larger:
            key = f"{name}: cost of {way.batch} images, that of {least.batch} = 1"
            found[key] = ratio(seconds[way], seconds[least])
    for way in seconds:
        if way.name == PEER:
            key = f"ours against peer-style, batch {way.batch}: times faster"
            found[key] = ratio(seconds[way], seconds[Way(OURS, way.batch)])
    return found


def figures_of(way: Way, samples: Sequence[Sample], steps: int, waits: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """Return the figures of one way as JSON values; a step's seconds are those of its whole batch."""
    return {
        "way": way.name,
        "batch": way.batch,
        "seconds": Spread.of([sample.seconds for sample in samples]).as_json(),
        "steps_per_s": Spread.of([steps / sample.seconds for sample in samples]).as_json(),
        "s_per_step_by_cut": [
            Spread.of([sample.of_step[k] for sample in samples]).as_json() for k in samples[0].of_step
        ],
        "host_waits_by_cut": [dict(of_step) for of_step in waits],
    }


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("inversion", measure, InversionOptions, argv)
