"""On which device networks run, and in which type they compute."""

from typing import Literal

import torch

from rtil.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]


def cpu_multiplies_bfloat16() -> bool:
    """Whether this processor has bfloat16 instructions (AVX512-BF16 or AMX); elsewhere bfloat16 is slower."""
    flags = torch.cpu.get_capabilities()
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type of convolutions and activations; ``auto`` is bfloat16 where the hardware multiplies it faster."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_multiplies_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def pick_device(device: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: If it does not exist on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device '{device}' is not valid: use auto, cpu, cuda or cuda:N") from error
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{device}' is not there ({torch.cuda.device_count()} GPUs found): use --device cpu")
    if picked.type not in ("cpu", "cuda"):
        raise UserError(f"device '{device}' is not supported: use auto, cpu, cuda or cuda:N")
    return picked


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it, so that clocks see its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
