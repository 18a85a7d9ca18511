"""What a multi-code inversion costs: ``python -m benchmarks multicode``.

mGANprior on PGGAN with random weights (time and memory do not depend on them), compressed sensing at 10 %: all images
in one batch, the same with heads in chunks that are computed again, and one image at a time. Each way runs in a
process of its own, for its peak memory.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from benchmarks import PROG
from benchmarks.frame import Recorded, run_benchmark
from mganprior import MGANPrior
from rtil import seeds
from rtil.devices import peak_memory_mb
from rtil.generators import PGGANGenerator
from rtil.inverse.operators import make_operator
from rtil.training.config import DEFAULT_CHANNELS

RESOLUTION = 32
WAYS = ("batch", "chunks", "one at a time")


def measure(way: str, images: int, codes: int, side: int, steps: int) -> dict[str, float]:
    """Invert random pictures; return seconds and peak memory in MB."""
    generator = PGGANGenerator(RESOLUTION, {s: c for s, c in DEFAULT_CHANNELS.items() if s <= RESOLUTION})
    operator = make_operator("cs", (3, RESOLUTION, RESOLUTION), rate=0.1)
    x = torch.rand(images, 3, RESOLUTION, RESOLUTION, generator=seeds.generator(0, "benchmark/pictures"))
    size = 1 if way == "one at a time" else images
    chunk = codes if way == "chunks" else images * codes
    for count in (1, steps):  # the first to warm up
        solver = MGANPrior(generator, count, codes=codes, compose_side=side, batch_size=size, chunk=chunk)
        found = solver.invert(operator(x), operator)
    return {"seconds": found.seconds, "peak_mb": peak_memory_mb(torch.device("cpu"))}


@dataclass
class MulticodeOptions(Recorded):
    """Time mGANprior on PGGAN, images and codes in one batch or not.

    Args:
        images: Pictures.
        codes: Codes of each.
        sides: Sides at which codes are composed; each is measured.
        steps: Optimisation steps.
        way: Run one way, here, at the first side, and print JSON.
    """

    images: int = 16
    codes: int = 20
    sides: list[int] = field(default_factory=lambda: [4, 8, 16])
    steps: int = 100
    way: Literal["batch", "chunks", "one at a time"] | None = None


def measure_all(options: MulticodeOptions) -> dict[str, Any]:
    """Run all ways; print a table and return the figures."""
    if options.way:
        result = measure(options.way, options.images, options.codes, options.sides[0], options.steps)
        print(json.dumps(result))
        return result
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, PGGAN {RESOLUTION} px")
    print(f"K = {options.codes}, {options.steps} steps")
    print(f"side | way | {options.images} images, s | time, batch = 1 | peak MB")
    rows = []
    for side in options.sides:
        found = {}
        for way in WAYS:
            command = [sys.executable, *PROG.split()[1:], "multicode", "--way", way, "--sides", str(side)]
            command += ["--images", str(options.images), "--codes", str(options.codes), "--steps", str(options.steps)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
            found[way] = json.loads(done.stdout.splitlines()[-1])
        for way, result in found.items():
            ratio = result["seconds"] / found["batch"]["seconds"]
            print(f"{side} | {way} | {result['seconds']:.1f} | {ratio:.2f} | {result['peak_mb']:.0f}")
            rows.append({"side": side, "way": way, **result})
    return {"images": options.images, "codes": options.codes, "steps": options.steps, "runs": rows}


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("multicode", measure_all, MulticodeOptions, argv)
