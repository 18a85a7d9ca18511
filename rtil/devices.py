"""On which device networks run, in which type they compute, and how much memory that takes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.precision import Precision

DEVICES = "auto, cpu, cuda, cuda:N or mps"


def cpu_multiplies_bfloat16() -> bool:
    """Whether this processor has bfloat16 instructions (AVX512-BF16 or AMX); elsewhere bfloat16 is slower."""
    flags = torch.cpu.get_capabilities()
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type of convolutions and activations; ``auto`` is bfloat16 where the hardware multiplies it faster.

    On Apple's GPUs ``auto`` is float32.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if device.type == "cpu" and cpu_multiplies_bfloat16() else torch.float32


def pick_device(device: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` (Apple's GPU).

    ``auto`` is a CUDA GPU where there is one, else the CPU. It is never ``mps``, which has to be asked for until its
    numbers have been compared with the CPU's on such a machine (tests/rtil/test_mps.py does that).

    Raises:
        UserError: If it does not exist on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device '{device}' is not valid: use {DEVICES}") from error
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{device}' is not there ({torch.cuda.device_count()} GPUs found): use --device cpu")
    if picked.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device '{device}' is not there (it is Apple's GPU, on macOS): use --device cpu")
    if picked.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device '{device}' is not supported: use {DEVICES}")
    return picked


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it, so that clocks see its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def where_float64_is(x: Tensor) -> Tensor:
    """Return x on a device that has float64: Apple's GPUs have not, what they hold is copied to the CPU."""
    return x.cpu() if x.device.type == "mps" else x


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory so far in MB (10^6 bytes): of the NVIDIA GPU in use, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset / 1e6)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return x on a device, without waiting for what a GPU was asked before.

    A copy from pageable memory waits until the GPU's stream has come to it, ``non_blocking`` or not.
    """
    if device.type == "cuda" and not x.is_cuda:
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


@contextmanager
def training_convolutions(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Set how a GPU computes convolutions inside the ``with`` block: as StyleGAN2's published code does by default.

    cuDNN tries its algorithms for every new shape and keeps the fastest: a training has few shapes. It may choose
    another one the next time, so a resumed run agrees with an uninterrupted one up to rounding.

    TF32 rounds the factors of a product to 10 bits behind the point, and sums in float32. With the main phases in
    float32 it is off, as there: float32 was asked for. With bfloat16 (7 bits) it is on, for the path length step and
    the 4x4 end of the discriminator, R1's pass through it too: float16, in which the published code computes the path
    length of its larger layers, has as many bits. Matrix products stay float32 either way.

    Args:
        device: Of the training; on a CPU nothing is set.
        dtype: Of the main phases.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn  # whose types leave conv out
    before = cudnn.benchmark, cudnn.conv.fp32_precision
    cudnn.benchmark, cudnn.conv.fp32_precision = True, "tf32" if dtype == torch.bfloat16 else "ieee"
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.conv.fp32_precision = before
