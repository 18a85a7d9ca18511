"""What ``rtil doctor`` finds on this machine: versions, processors, tiers of every operation, self-tests."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from rtil.devices import compute_dtype
from rtil.errors import UserError
from rtil.machine import gpus, processor, short, versions
from rtil.ops import build, extension, selftest
from rtil.ops.tier import COMPILED, OPERATIONS, choice
from rtil.ops.toolchain import BuildError, find_compiler, find_cuda
from rtil.packages import examined
from rtil.weights.backbones import BACKBONES, find_backbone

Report = dict[str, Any]


def check_tier() -> None:
    """Raise UserError if ``RTIL_OPS`` has no valid value."""
    choice("conv2d", torch.device("cpu"))


def examine(build_now: bool) -> Report:
    """Return the whole report; its ``ok`` says whether nothing is wrong.

    Args:
        build_now: Compile the library if it is not there.
    """
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    library = _library(build_now)
    report: Report = {
        "versions": versions(),
        "packages": dict(examined()),
        "cpu": processor(),
        "gpus": gpus(),
        "compiler": _answer(_compiler),
        "cuda": _answer(_cuda) if torch.version.cuda else "not needed: torch was built without CUDA",
        "library": library,
        "lpips": {net: _lpips(net) for net in BACKBONES},
        "tiers": [row for device in devices for row in _tiers(device, library)],
        "selftest": [
            {**vars(outcome), "ok": outcome.ok} for outcome in selftest.run_all(library["state"] == "loaded", devices)
        ],
    }
    broken = set(report["packages"].values()) != {"ok"}
    wrong = broken or library["state"] == "failed" or any(row["tier"] is None for row in report["tiers"])
    report["ok"] = not wrong and all(row["ok"] for row in report["selftest"])
    return report


def _library(build_now: bool) -> Report:
    """Load the compiled library if it is there, or after building it if that is asked for."""
    report: Report = {"state": "none", "file": None, "cuda": False, "seconds": None, "problem": None}
    there = False
    try:
        there = _is_there(torch.cuda.is_available())
        if not there and not build_now:
            return {**report, "state": "later", "problem": "not compiled yet: done at first use, or now with --build"}
        start = time.perf_counter()
        loaded = extension.load()
        seconds = None if there else round(time.perf_counter() - start, 1)
    except BuildError as error:
        return {**report, "state": "failed" if there or build_now else "none", "problem": short(str(error))}
    state = "failed" if build_now and loaded.cuda_error else "loaded"
    found = {"file": short(loaded.path), "cuda": loaded.cuda, "seconds": seconds}
    found["problem"] = loaded.cuda_error and short(loaded.cuda_error)
    return {**report, "state": state, **found}


def _is_there(cuda: bool) -> bool:
    try:
        return build.found(cuda) is not None
    except BuildError:
        if not cuda:
            raise
        return build.found(cuda=False) is not None


def _tiers(device: str, library: Report) -> Iterator[Report]:
    """Yield what runs every operation on a device, in the type that training would take there, and why."""
    dtype = compute_dtype("auto", torch.device(device))
    later = library["state"] == "later" and os.environ.get("RTIL_OPS", "auto") in ("auto", "ext")
    for op in OPERATIONS:
        row = {"op": op, "device": device, "dtype": str(dtype).removeprefix("torch.")}
        if later and op in COMPILED:
            yield {**row, "tier": "ext", "reason": "once compiled, where that is faster"}
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                tier, reason = choice(op, torch.device(device))
            yield {**row, "tier": tier, "reason": short(reason)}
        except UserError as error:
            yield {**row, "tier": None, "reason": short(str(error))}


def _compiler() -> str:
    compiler = find_compiler()
    return f"{compiler.version} ({short(compiler.command[0])})"


def _cuda() -> str:
    toolkit = find_cuda()
    return f"{toolkit.version} ({short(toolkit.nvcc)}), fits torch's CUDA {torch.version.cuda}"


def _answer(question: Callable[[], str]) -> str:
    try:
        return question()
    except BuildError as error:
        return short(str(error))


def _lpips(net: Any) -> str:
    try:
        found = find_backbone(net)
    except UserError as error:
        return short(str(error))
    return "weights are here" if found else "no weights: rtil weights lpips"
