"""What a training needs of memory, counted and measured: ``python -m benchmarks memory``.

StyleGAN2 with the widths of Karras et al. 2020 (512 up to 64 px, then 256, 128, 64, 32), path length and R1 on. A table
by resolution and batch is counted on tensors without content (:mod:`rtil.training.memory`), with and without
activation checkpointing. With ``--measure`` steps also run on this CPU, each case in a process of its own: its peak
beyond what the process had before, against the count.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks import PROG
from benchmarks.frame import Recorded, print_table, run_benchmark
from rtil.devices import compute_dtype, peak_memory_mb
from rtil.errors import RunError
from rtil.layout import resolutions
from rtil.precision import Precision
from rtil.training.config import StyleGAN2Config
from rtil.training.memory import Planner
from rtil.training.stylegan2 import StyleGAN2Training
from rtil.training.without_trainer import WithoutTrainer

CPU = torch.device("cpu")
STEPS = 2


@dataclass
class MemoryOptions(Recorded):
    """Count, and measure, what a training of StyleGAN2 needs of memory.

    Args:
        resolutions: Sides of the pictures in pixels.
        batches: Images per step.
        precision: Of the main phases.
        width: Largest number of channels.
        measure: Run each case, too.
        case: Run one case, given as settings in JSON, here, and print its peak in MB.
    """

    resolutions: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 512, 1024])
    batches: list[int] = field(default_factory=lambda: [4, 8, 16, 32])
    precision: Precision = "bfloat16"
    width: int = 512
    measure: bool = False
    case: str | None = None


class StyleGAN2WithoutTrainer(WithoutTrainer, StyleGAN2Training):
    """StyleGAN2's training step without Lightning's loop."""


def settings(resolution: int, batch: int, options: MemoryOptions, checkpointing: bool) -> dict[str, Any]:
    """Return the settings of a case."""
    return {
        "resolution": resolution,
        "batch": batch,
        "channels": {side: min(options.width, 32768 // side) for side in resolutions(resolution)},
        "mapping_layers": 8,
        "path_weight": 2.0,
        "style_mixing": 0.9,
        "precision": options.precision,
        "activation_checkpointing": checkpointing,
    }


def run_case(config: StyleGAN2Config) -> float:
    """Run steps with all their phases; return the MB by which the peak of this process rises."""
    _run_steps(StyleGAN2Config(resolution=8, channels={4: 8, 8: 8}, precision=config.precision))  # loads libraries
    before = peak_memory_mb(CPU)
    _run_steps(config)
    return peak_memory_mb(CPU) - before


def _run_steps(config: StyleGAN2Config) -> None:
    module = StyleGAN2WithoutTrainer(config)
    module.start(CPU, compute_dtype(config.precision, CPU))
    for _ in range(STEPS):
        module.seen = 0
        module.training_step(torch.zeros(config.batch, 3, config.resolution, config.resolution, dtype=torch.uint8), 0)


def measure_all(options: MemoryOptions) -> dict[str, Any]:
    """Count every case, and run it if asked to; print a table and return the figures."""
    if options.case is not None:
        result = {"peak_mb": run_case(StyleGAN2Config(**json.loads(options.case)))}
        print(json.dumps(result))
        return result
    rows = []
    for resolution in options.resolutions:
        for batch in options.batches:
            for checkpointing in (False, True):
                of_case = settings(resolution, batch, options, checkpointing)
                needed = Planner(StyleGAN2Config(**of_case), CPU).estimate()
                row: dict[str, Any] = {
                    "resolution": resolution,
                    "batch": batch,
                    "activation_checkpointing": checkpointing,
                }
                row |= {"counted_mb": needed.total / 1e6, "step_mb": needed.step / 1e6}
                if options.measure:
                    row["measured_mb"] = _in_own_process(of_case)
                    row["measured_by_counted"] = row["measured_mb"] / row["counted_mb"]
                rows.append(row)
                print(*row.values(), file=sys.stderr, flush=True)  # each takes its time
    head = list(rows[0])
    print_table(
        head,
        [[f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in head] for row in rows],
    )
    return {"precision": options.precision, "width": options.width, "cases": rows}


def _in_own_process(of_case: dict[str, Any]) -> float:
    command = [sys.executable, *PROG.split()[1:], "memory", "--case", json.dumps(of_case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RunError(f"a case failed: {done.stderr.strip().splitlines()[-1]}")
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mb"])


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("memory", measure_all, MemoryOptions, argv)
