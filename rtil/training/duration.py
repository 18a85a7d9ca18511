"""How long a training takes at least: its convolutions and matrix products at the rate of a convolution alone.

The floating point operations of a step of every kind are counted on tensors without content, as its memory is
(:mod:`rtil.training.memory`), each phase by how often it is due and each branch by its weight. The rate is that of a
3x3 convolution, measured at once on this machine. What a step does beside, and reading the pictures, comes on top.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from rtil.devices import wait_for
from rtil.seeds import generator
from rtil.training.config import StyleGAN2Config, TrainingConfig
from rtil.training.memory import MOST_COUNTED, Planner

MAPS = {"cpu": (16, 128, 32), "cuda": (64, 256, 64)}
"""{kind of device: (pictures, channels, side)} of the map that is convolved."""
KERNEL, CALLS = 3, 4

Work = dict[torch.dtype, float]


class Operations(TorchDispatchMode):
    """Adds up the floating point operations of what runs in a ``with`` block, by type, with torch's formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            dtype = next(value.dtype for value in args if isinstance(value, Tensor))
            self.found[dtype] += formula(*args, **(kwargs or {}), out_val=out)
        return out


def work_of(config: TrainingConfig, device: torch.device) -> Work:
    """Return the floating point operations of a whole training, by type."""
    planner = Planner(config, device)
    firsts = [*planner.steps(), config.total_images]
    total: dict[torch.dtype, float] = defaultdict(float)
    for first, end in pairwise(firsts):
        batch = min(config.batch_at(first), MOST_COUNTED)
        for share, branches in planner.branches():
            operations = Operations()
            steps = share * (end - first) / batch

            def add(phase: str, operations: Operations = operations, steps: float = steps) -> None:
                for dtype, count in operations.found.items():
                    total[dtype] += count * steps / _every(config, phase)
                operations.found.clear()

            planner.run(first, batch, branches, operations, add)
    return dict(total)


def time_line(config: TrainingConfig, device: torch.device) -> str | None:
    """Return a line that says how long a training takes at least, or None where no rate is measured."""
    if device.type not in MAPS:
        return None
    seconds = sum(count / rate(dtype, device) for dtype, count in work_of(config, device).items())
    return f"time: at least {in_hours(seconds)}, at the rate at which convolutions alone run here now"


def rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the floating point operations a second of a 3x3 convolution, the fastest of some calls."""
    pictures, channels, side = MAPS[device.type]
    shapes = (pictures, channels, side, side), (channels, channels, KERNEL, KERNEL)
    rng = generator(0, "duration/convolution")
    x, w = (torch.randn(shape, generator=rng).to(device, dtype, memory_format=torch.channels_last) for shape in shapes)
    seconds = []
    for _ in range(1 + CALLS):
        wait_for(device)
        started = time.perf_counter()
        conv2d(x, w, padding=KERNEL // 2)
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return 2 * x.numel() * channels * KERNEL**2 / min(seconds)


def in_hours(seconds: float) -> str:
    """Return a duration as text.

    Example:
        >>> in_hours(20), in_hours(600), in_hours(5400), in_hours(4e5)
        ('20 s', '10 min', '1.5 h', '4.6 days')
    """
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def _every(config: TrainingConfig, phase: str) -> int:
    """Return in how many steps a phase runs once."""
    if not isinstance(config, StyleGAN2Config):
        return 1
    return {"path_length": config.path_interval, "r1": config.r1_interval}.get(phase, 1)
