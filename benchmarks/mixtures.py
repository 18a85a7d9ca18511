"""What RTIL's mixtures cost in PGGAN's training: ``python -m benchmarks mixtures``.

Each way of training runs in a process of its own, for its peak memory, one after the other in turns, and the median
over the turns counts; ratios are of medians of the same run. The reference ``loop`` runs the codes one by one, as the
published code does, with the same networks, losses and draws.
"""

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks import PROG
from benchmarks.frame import Recorded, run_benchmark
from benchmarks.record import Spread
from rtil.branches import MixtureBranches, Part
from rtil.devices import compute_dtype, peak_memory_mb
from rtil.generators.base import LayeredGenerator, State
from rtil.ops import Noise
from rtil.training.config import PGGANConfig
from rtil.training.pggan import PGGANTraining
from rtil.training.without_trainer import WithoutTrainer

CPU = torch.device("cpu")
WAYS: dict[str, dict[str, Any]] = {
    "vanilla": {"rtil": False},
    "sampled": {"rtil": True, "estimator": "sampled"},
    "all": {"rtil": True, "estimator": "all"},
    "loop": {"rtil": True, "estimator": "all"},
}


def loop_over_codes(
    self: MixtureBranches,
    generator: LayeredGenerator,
    ws: Tensor,
    noise: Sequence[Noise],
    branch: Tensor,
    rng: torch.Generator,
    rows: Tensor | None = None,
) -> Tensor:
    """Do what :meth:`MixtureBranches.generate` does for one number of codes, head by head."""
    codes = int(self.codes_of(branch)[0])
    N = len(branch)
    alpha = self.draw_weights(self.codes_of(branch), rng).to(ws)
    alpha = alpha[alpha > 0].view(N, codes)
    cut = generator.last_cut_within(self.side)
    feature = tail_ws = torch.zeros(())
    for k, of_code in enumerate(ws.unflatten(0, (N, codes)).unbind(1)):
        state = generator.head(of_code, noise, cut)
        feature = feature + state.feature * alpha[:, k, None, None, None].to(state.feature.dtype)
        tail_ws = tail_ws + of_code * alpha[:, k, None, None]
    return generator.tail(State(feature, None), tail_ws, noise, cut)


def measure(way: str, side: int, batch: int, steps: int) -> dict[str, float]:
    """Train some steps of the last stage, fully faded in; return images per second and peak memory in MB."""
    if way == "loop":
        MixtureBranches.generate = loop_over_codes  # type: ignore[method-assign]
    config = PGGANConfig(mixture_side=side, batches=dict.fromkeys((4, 8, 16, 32), batch), **WAYS[way])
    module = PGGANWithoutTrainer(config)
    module.start(CPU, compute_dtype(config.precision, CPU))
    last = module.schedule.stages[-1]
    reals = torch.rand(batch, 3, 32, 32) * 2 - 1
    seconds = []
    if way == "sampled":
        MixtureBranches.parts = branches_in_turn(module.branches.count)  # type: ignore[method-assign]
    for step in range(steps + 2):
        module.seen = last.first_image + last.fade_images + batch * step
        started = time.perf_counter()
        module.step_on(reals)
        seconds.append(time.perf_counter() - started)
    mean = statistics.mean(seconds[2:])
    return {"images_per_s": batch / mean, "peak_mb": peak_memory_mb(CPU)}


def branches_in_turn(count: int) -> Callable[..., list[Part]]:
    """Return a draw of branches that takes them one after the other: their mean cost, whatever the seed."""
    turn = itertools.cycle(range(count))

    def parts(self: MixtureBranches, groups: Tensor, rng: torch.Generator) -> list[Part]:
        return [Part(torch.full((len(groups),), next(turn)), 1.0)]

    return parts


def measure_heads(side: int, batch: int, repeats: int) -> dict[str, float]:
    """Time the heads of 1 + 10 + 20 codes alone, forward and backward: seconds batched and one code after the other."""
    config = PGGANConfig(rtil=True, mixture_side=side)
    module = PGGANWithoutTrainer(config)
    last = module.schedule.stages[-1]
    module.G.grow(last.blocks)
    dtype = compute_dtype(config.precision, CPU)
    cut = module.G.last_cut_within(side)
    ws = module.G.mapping(torch.randn(sum(config.codes) * batch, config.z_dim))
    seconds: dict[str, list[float]] = {"batched": [], "loop": []}
    for repeat in range(repeats + 1):
        for way, rows in (("batched", [ws]), ("loop", list(ws.split(batch)))):
            started = time.perf_counter()
            with module.G.computing_in(dtype):
                total = sum(
                    (module.G.head(part, [], cut).feature.float().square().mean() for part in rows), ws.new_zeros(())
                )
            total.backward()
            module.G.zero_grad()
            if repeat:
                seconds[way].append(time.perf_counter() - started)
    return {way: statistics.median(values) for way, values in seconds.items()}


class PGGANWithoutTrainer(WithoutTrainer, PGGANTraining):
    """PGGAN's training step without Lightning's loop."""


@dataclass
class MixtureOptions(Recorded):
    """Time PGGAN's training with each way to run RTIL's mixtures, 32 px networks.

    Args:
        sides: Sides at which codes mix; each is measured.
        batch: Images of a step.
        steps: Steps of each turn, a multiple of the branches.
        turns: How often each way is measured.
        way: Run one way once, here, at the first side, and print JSON.
    """

    sides: list[int] = field(default_factory=lambda: [4])
    batch: int = 32
    steps: int = 18
    turns: int = 3
    way: Literal["vanilla", "sampled", "all", "loop"] | None = None


def measure_all(options: MixtureOptions) -> dict[str, Any]:
    """Run all ways in turns; print a table and return the figures."""
    if options.way:
        result = measure(options.way, options.sides[0], options.batch, options.steps)
        print(json.dumps(result))
        return result
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, PGGAN 32 px, batch {options.batch}, K 1, 10, 20"
    )
    print("mixture side | way | images/s | cost of an image, vanilla = 1 | peak MB")
    rows = []
    for side in options.sides:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(options.turns):
            for way, results in found.items():
                command = [sys.executable, *PROG.split()[1:], "mixtures", "--way", way, "--sides", str(side)]
                command += ["--batch", str(options.batch), "--steps", str(options.steps)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
                results.append(json.loads(done.stdout.splitlines()[-1]))
        rate = {way: statistics.median(r["images_per_s"] for r in results) for way, results in found.items()}
        for way, results in found.items():
            peak = max(r["peak_mb"] for r in results)
            print(f"{side} | {way} | {rate[way]:.1f} | {rate['vanilla'] / rate[way]:.2f} | {peak:.0f}")
            rates = Spread.of([r["images_per_s"] for r in results]).as_json()
            rows.append({"side": side, "way": way, "images_per_s": rates, "peak_mb": round(peak)})
        heads = measure_heads(side, options.batch, options.steps)
        ratio = heads["loop"] / heads["batched"]
        print(
            f"{side} | heads alone | {heads['batched']:.3f} s batched, {heads['loop']:.3f} s looped: {ratio:.2f} times"
        )
        rows.append({"side": side, "way": "heads alone", **heads})
    return {"batch": options.batch, "steps": options.steps, "turns": options.turns, "runs": rows}


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("mixtures", measure_all, MixtureOptions, argv)
