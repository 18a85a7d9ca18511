"""N processes against one: ``python -m benchmarks ranks``, on the CPU over gloo, each process with one thread.

Equality: every tensor of a training, weights, moving average, running means and Adam's moments, after some steps of one
process and of several that share its batches. The worst difference is relative to the tensor's own largest value.

Scaling: images per second of several processes and of one, measured in turns. Weak: each process has the batch that the
one has; strong: they share it. By the clock, and by the processor's seconds of the process that took most of them: what
a machine would show that has nothing else to do, waiting for each other left out.
"""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.frame import Recorded, print_table, run_benchmark
from benchmarks.ranks_members import Members, worst_difference
from benchmarks.record import Spread

STYLEGAN2 = {"w_dim": 16, "mapping_layers": 2, "path_weight": 2.0, "style_mixing": 0.9}
PGGAN = {"arch": "pggan", "fade_reals": True}
MIXTURE = {"branches": "mixture", "codes": [1, 3]}
ADDITIVE = {"branches": "additive"}
ALL = {"estimator": "all"}
COMBINATIONS: Mapping[str, Mapping[str, Any]] = {
    "StyleGAN2, vanilla": STYLEGAN2 | {"rtil": False},
    "StyleGAN2, additive": STYLEGAN2,
    "StyleGAN2, additive, all": STYLEGAN2 | ALL,
    "StyleGAN2, mixture": STYLEGAN2 | MIXTURE,
    "StyleGAN2, mixture, all": STYLEGAN2 | MIXTURE | ALL,
    "PGGAN, vanilla": PGGAN | {"rtil": False},
    "PGGAN, additive": PGGAN | ADDITIVE,
    "PGGAN, mixture": PGGAN | MIXTURE,
    "PGGAN, mixture, all": PGGAN | MIXTURE | ALL,
}
SHARES_OF_STAGES = {4: 2, 8: 3, 16: 4, 32: 5}
"""How long PGGAN's stages are among each other."""


@dataclass
class RanksOptions(Recorded):
    """Compare several processes with one.

    Args:
        what: ``equality`` or ``scaling``.
        processes: Numbers of processes to compare with one.
        resolutions: Sides of the pictures of ``equality``.
        until: Steps after which ``equality`` compares.
        combinations: Words that ``equality`` looks for in the names of its combinations; all of them without.
        dtype: Type of all that ``equality`` computes.
        accumulate: Turns of each process (StyleGAN2).
        batch: Images of a step, in total; with ``scaling`` of one process.
        steps: Steps of each turn of ``scaling``.
        turns: How often ``scaling`` measures each way.
    """

    what: Literal["equality", "scaling"] = "equality"
    processes: list[int] = field(default_factory=lambda: [2, 4])
    resolutions: list[int] = field(default_factory=lambda: [16, 32])
    until: list[int] = field(default_factory=lambda: [1, 9, 33])
    combinations: list[str] = field(default_factory=list)
    dtype: Literal["float32", "float64"] = "float32"
    accumulate: int = 1
    batch: int = 16
    steps: int = 8
    turns: int = 5


def settings_of(combination: Mapping[str, Any], resolution: int, batch: int, steps: int) -> dict[str, Any]:
    """Return the settings of a small training in which PGGAN reaches its last stage within some steps."""
    sides = [side for side in (4, 8, 16, 32) if side <= resolution]
    settings: dict[str, Any] = {
        "resolution": resolution,
        "channels": dict.fromkeys(sides, 8),
        "z_dim": 16,
        "rtil": True,
    }
    settings |= {"precision": "float32", "lr": 0.002} | dict(combination)
    if settings.get("arch") != "pggan":
        return settings | {"batch": batch}
    whole = sum(SHARES_OF_STAGES[side] for side in sides)
    stages = {side: max(1, steps * SHARES_OF_STAGES[side] // whole) * batch / 1000 for side in sides}
    return settings | {"batches": dict.fromkeys(sides, batch), "stages": stages, "kimg": sum(stages.values())}


def equality(options: RanksOptions) -> dict[str, Any]:
    """Print the worst differences of every combination."""
    rows, found = [], []
    chosen = {
        name: given
        for name, given in COMBINATIONS.items()
        if all(word in name for word in options.combinations) and (options.accumulate == 1 or "PGGAN" not in name)
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        groups = {n: Members(n, folder) for n in [1, *options.processes]}
        try:
            for resolution in options.resolutions:
                for name, combination in chosen.items():
                    settings = settings_of(combination, resolution, options.batch, max(options.until))
                    for n, members in groups.items():
                        (folder / str(n)).mkdir(exist_ok=True)
                        own = settings if n == 1 else settings | {"accumulate": options.accumulate}
                        members.call("train", own, options.until, str(folder / str(n)), getattr(torch, options.dtype))
                    for n in options.processes:
                        worst = [
                            worst_difference(*(torch.load(folder / str(m) / f"{step}.pt") for m in (1, n)))
                            for step in options.until
                        ]
                        cells = [f"{difference:.1e}" for difference, _ in worst]
                        print(" | ".join([name, f"{resolution} px", str(n), *cells, worst[-1][1]]), flush=True)
                        rows.append([name, f"{resolution} px", str(n), *cells])
                        found.append({"of": name, "resolution": resolution, "processes": n, "worst": cells})
        finally:
            for members in groups.values():
                members.__exit__(None, None, None)
    print_table(["worst relative difference", "side", "processes", *[f"{n} steps" for n in options.until]], rows)
    return {"until": options.until, "batch": options.batch, "dtype": options.dtype, "rows": found}


def scaling(options: RanksOptions) -> dict[str, Any]:
    """Print images per second of several processes and of one, in turns, and the bytes that a process sends."""
    rows, found = [], []
    networks = {"resolution": 32, "rtil": True, "precision": "float32"}  # the networks are the default ones
    with tempfile.TemporaryDirectory() as temporary:
        for n in options.processes:
            ways = {"one": (1, options.batch), "weak": (n, n * options.batch), "strong": (n, options.batch)}
            groups = {count: Members(count, Path(temporary)) for count in (1, n)}
            rates: dict[str, list[float]] = {way: [] for way in ways}
            worked: dict[str, list[float]] = {way: [] for way in ways}
            given: dict[str, int] = {}
            try:
                for _ in range(options.turns):
                    for way, (count, batch) in ways.items():
                        told = groups[count].call("seconds", networks | {"batch": batch}, options.steps)
                        rates[way].append(options.steps * batch / max(seconds for seconds, _, _ in told))
                        worked[way].append(options.steps * batch / max(seconds for _, seconds, _ in told))
                        given[way] = told[0][2] // options.steps
            finally:
                for members in groups.values():
                    members.__exit__(None, None, None)
            for way in ("weak", "strong"):
                spread, of_processor = (
                    Spread.of([many / one for many, one in zip(by[way], by["one"], strict=True)])
                    for by in (rates, worked)
                )
                rate = f"{statistics.median(rates[way]):.1f}"
                rows.append([f"{way}, {n}", rate, str(spread), str(of_processor), f"{given[way] / 1e6:.2f}"])
                ratios = {"ratio": spread.as_json(), "ratio_of_processor": of_processor.as_json()}
                found.append({"way": way, "processes": n, **ratios, "bytes_a_step": given[way]})
            rows.append(["one process", f"{statistics.median(rates['one']):.1f}", "1", "1", "0"])
    print_table(["way, processes", "images/s", "times that of one", "by processor", "MB averaged a step"], rows)
    return {"batch": options.batch, "steps": options.steps, "turns": options.turns, "rows": found}


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("ranks", lambda o: (equality if o.what == "equality" else scaling)(o), RanksOptions, argv)
