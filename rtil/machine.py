"""What this machine is, for reports and for people who are to help from afar."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

import torch

import rtil


def versions() -> dict[str, str]:
    """Return the versions of Python and of what results and speed depend on; "CUDA" is what torch was built with."""
    own = {"python": platform.python_version(), "rtil": rtil.__version__, "torch": torch.__version__}
    others = {name: _version(name) for name in ("torchvision", "pytorch-lightning", "numpy")}
    return {**own, "CUDA": torch.version.cuda or "none", **others}


def processor() -> dict[str, Any]:
    """Return the processor's name, the cores this process may use, and the instruction sets that matter here."""
    features = torch.cpu.get_capabilities()
    wanted = {"avx2": "avx2", "avx512": "avx512_f", "avx512_bf16": "avx512_bf16", "amx_bf16": "amx_bf16"}
    return {
        "name": _processor_name(),
        "cores": cores(),
        **{name: bool(features.get(feature)) for name, feature in wanted.items()},
    }


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[dict[str, Any]]:
    """Return name, architecture and memory in GiB of every GPU that torch can use."""
    found = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(i)
        memory = round(properties.total_memory / 2**30, 1)
        found.append(
            {"name": properties.name, "arch": f"sm_{properties.major}{properties.minor}", "memory_gib": memory}
        )
    return found


def short(text: str | Path) -> str:
    """Return a path, or text with paths, without what says where somebody's files lie.

    Paths below this folder, Python's environment and the home folder start with ``.``, ``<python>`` and ``~``.
    """
    text = str(text)
    for folder, name in ((Path.cwd(), "."), (Path(sys.prefix), "<python>"), (Path.home(), "~")):
        text = renamed(text, folder, name)
    return text


def renamed(text: str, folder: PurePath, name: str) -> str:
    r"""Return text with another name for a folder where paths start with it, whichever way these are written.

    Example:
        >>> from pathlib import PureWindowsPath
        >>> renamed("C:\\me\\x and C:/me/y", PureWindowsPath("C:\\me"), "~")
        '~\\x and ~/y'
    """
    if folder == PurePath(folder.anchor):
        return text
    for start in (str(folder / "x"), (folder / "x").as_posix()):
        text = text.replace(start[:-1], name + start[-2])
    return text


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
