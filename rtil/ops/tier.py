"""Which implementation of an operation runs: ``RTIL_OPS=ref|native|ext|auto``.

ref     slow and obviously right
native  the best composition of torch's own operations; needs no compiler
ext     the compiled library, built at first use, for every operation that it has; an error where it cannot be built
auto    the default: ext where it can be had and, on a CPU, measured faster; native elsewhere
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

from rtil.errors import RunError, unknown
from rtil.ops import extension
from rtil.ops.build import BuildError

TIERS = ("ref", "native", "ext", "auto")
COMPILED = ("bias_act", "counter_normal", "styled_tail", "upfirdn2d")
OPERATIONS = (*COMPILED, "conv2d", "conv_transpose2d", "modulated_conv2d", "pixel_norm", "upsample_bilinear2d")
_SMALL = 1 << 18
_planned: ContextVar[torch.device | None] = ContextVar("meta_stands_for", default=None)


class Choice(NamedTuple):
    """A tier and why it was chosen."""

    tier: str
    reason: str


@contextmanager
def meta_stands_for(device: torch.device) -> Iterator[None]:
    """Give tensors without content, on ``meta``, the tiers of a device inside the ``with`` block."""
    outside = _planned.set(device)
    try:
        yield
    finally:
        _planned.reset(outside)


def choice(op: str, device: torch.device, elements: int = _SMALL) -> Choice:
    """Return which tier runs an operation; builds and loads the library where that decides it.

    Args:
        op: One of ``OPERATIONS``.
        device: Of the operation's tensors.
        elements: Of its feature map.

    Raises:
        RunError: ``RTIL_OPS`` has no valid value, or asks for a library that cannot be built.
    """
    if device.type == "meta":
        device = _planned.get() or device
    wanted = os.environ.get("RTIL_OPS", "auto")
    if wanted not in TIERS:
        raise RunError(str(unknown("RTIL_OPS tier", wanted, TIERS)))
    if wanted in ("ref", "native"):
        return Choice(wanted, f"RTIL_OPS={wanted}")
    if op not in COMPILED:
        return Choice("native", "there is no compiled form")
    if device.type not in ("cpu", "cuda"):
        return Choice("native", f"compiled for CPU and CUDA only, not for {device.type}")
    if wanted == "ext":
        loaded = extension.load()
        if device.type == "cuda" and not loaded.cuda:
            raise RunError(loaded.cuda_error or f"{loaded.path} has no CUDA kernels: delete it, and it is built again")
        return Choice("ext", "RTIL_OPS=ext")
    if op == "bias_act" and elements < _SMALL:
        return Choice("native", f"below {_SMALL} elements the call costs more than it saves")
    found = extension.find()
    if isinstance(found, BuildError):
        return Choice("native", str(found))
    if device.type == "cuda" and not found.cuda:
        return Choice("native", found.cuda_error or "the library has no CUDA kernels")
    return Choice("ext", "measured faster" if device.type == "cpu" else "fewer passes over the map; not measured")


def tier_of(op: str, x: Tensor) -> str:
    """Return the tier that runs an operation on the map x."""
    return choice(op, x.device, x.numel()).tier
