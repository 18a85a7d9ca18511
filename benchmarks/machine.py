"""Which machine a measurement was made on, as far as it explains the figures: no names of hosts, users or folders."""

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from rtil.launch import LAUNCHED
from rtil.machine import gpus, processor

FLAGS = ("avx2", "avx512_f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")
"""What decides which kernels run on a processor, as torch calls it."""


def describe() -> dict[str, Any]:
    """Return the machine as JSON values.

    ``load`` is the number of processes that wanted a core in the minute before: near 0 on an idle machine.
    """
    capabilities, cpu, found = torch.cpu.get_capabilities(), processor(), gpus()
    return {
        "cpu": cpu["name"],
        "cores": cpu["cores"],
        "flags": [flag for flag in FLAGS if capabilities.get(flag)],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "malloc_settings": LAUNCHED in os.environ,
        "ops": os.environ.get("RTIL_OPS", "auto"),
        "cuda_graphs": os.environ.get("RTIL_CUDA_GRAPHS", "0") == "1",
        "gpus": found,
        "cuda": torch.version.cuda if found else None,
        "load": round(os.getloadavg()[0], 2),
        "commit": commit(),
    }


def commit() -> str | None:
    """Return the commit that is checked out, with ``+`` behind it if files were changed; None outside a clone."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*words: str) -> str:
        command = [git, "-C", str(Path(__file__).parent), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip()

    head = ask("rev-parse", "--short", "HEAD")
    return head + "+" * bool(ask("status", "--porcelain", "--untracked-files=no")) if head else None
