"""How much memory a machine has for this process, and when it has run out."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
WORDS_OF_ALLOCATORS = ("DefaultCPUAllocator", "std::bad_alloc", "MPS backend out of memory")


def memory_of(device: torch.device) -> int:
    """Return the bytes that there are for a device: an NVIDIA GPU's own, else those of :func:`host_memory`."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return host_memory()


def host_memory() -> int:
    """Return the bytes of the machine, or those that its control groups leave this process (containers, SLURM)."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.virtual_memory().total)
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits(OWN_CGROUPS, CGROUPS)])


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that there is no memory left: a GPU's, torch's on a CPU, or Python's.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS_OF_ALLOCATORS)


def in_gb(count: float) -> str:
    """Return bytes as text, in GB of 10^9 bytes.

    Example:
        >>> in_gb(48_200_000), in_gb(3_260_000_000), in_gb(1.5e12)
        ('0.05 GB', '3.3 GB', '1500 GB')
    """
    gb = count / 1e9
    return f"{gb:.2f} GB" if gb < 1 else f"{gb:.1f} GB" if gb < 100 else f"{gb:.0f} GB"


def _limits(own: Path, root: Path) -> Iterator[int]:
    """Yield the limits of the control groups of a process and of those above them, of version 2 and 1."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            folder, file = root, "memory.max"
        elif "memory" in controllers.split(","):
            folder, file = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        inside = PurePosixPath(path).relative_to("/")
        for group in (inside, *inside.parents):  # in a container the path may be one of the host, and the root its own
            try:
                yield int((folder / group / file).read_text(encoding="utf-8"))
            except (OSError, ValueError):  # no such file, or "max"
                continue
