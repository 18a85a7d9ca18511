"""How fast a machine computes in convolutions alone: what a step takes at that rate, it takes at least."""

from collections.abc import Iterable, Mapping

import torch
from torch.nn.functional import conv2d

from benchmarks.timing import seconds_of
from rtil import seeds

MAPS = {"cpu": (32, 128, 32), "cuda": (64, 256, 64)}
"""{kind of device: (pictures, channels, side)} of the map that is convolved: large enough to be all that takes time."""
KERNEL, CALLS = 3, 5


def convolution_rates(dtypes: Iterable[str], device: torch.device) -> dict[str, float]:
    """Return the floating point operations a second of a 3x3 convolution, its forward pass in NHWC, by type.

    Args:
        dtypes: Names of types.
        device: Where it runs; the fastest of some calls counts.
    """
    return {name: _rate(getattr(torch, name), device) for name in dtypes}


def _rate(dtype: torch.dtype, device: torch.device) -> float:
    pictures, channels, side = MAPS[device.type]
    rng = seeds.generator(0, "benchmark/convolution")
    shapes = (pictures, channels, side, side), (channels, channels, KERNEL, KERNEL)
    x, w = (torch.randn(shape, generator=rng).to(device, dtype, memory_format=torch.channels_last) for shape in shapes)
    of_calls = [seconds_of(lambda: conv2d(x, w, padding=KERNEL // 2), device) for _ in range(1 + CALLS)]
    return 2 * x.numel() * channels * KERNEL**2 / min(of_calls)


def seconds_at(rates: Mapping[str, float], flops: Mapping[str, float]) -> float:
    """Return how long floating point operations of these types take at these rates.

    Example:
        >>> seconds_at({"float32": 10.0, "bfloat16": 40.0}, {"float32": 20.0, "bfloat16": 20.0})
        2.5
    """
    return sum(count / rates[dtype] for dtype, count in flops.items())


def rates_text(rates: Mapping[str, float]) -> str:
    """Return a line that says the rates."""
    each = ", ".join(f"{rate / 1e12:.3g} in {dtype}" for dtype, rate in rates.items())
    return f"TFLOP/s of a {KERNEL}x{KERNEL} convolution alone: {each}"


def in_units(values: Mapping[str, float], unit: float) -> dict[str, float]:
    """Return values divided by a unit, to four digits, for a row of figures."""
    return {name: float(f"{value / unit:.4g}") for name, value in values.items()}
