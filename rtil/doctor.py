"""``python -m rtil.doctor``: what is installed, which tier runs every operation and why, and whether it computes right.

Exit codes: 0 when every operation passes its self-test, 1 when one fails (or the build asked for does), 2 for a mistake
in the command.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from rtil.devices import compute_dtype
from rtil.errors import UserError
from rtil.machine import gpus, processor, short, versions
from rtil.ops import build, extension, selftest
from rtil.ops.tier import COMPILED, OPERATIONS, choice
from rtil.ops.toolchain import BuildError, find_compiler, find_cuda
from rtil.weights.backbones import BACKBONES, find_backbone

Report = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rtil.doctor", description=__doc__)
    parser.add_argument("--build", action="store_true", help="compile the fused operations now if they are not there")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    try:
        report = examine(options.build)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print(*as_text(report), sep="\n")
    return 0 if report["ok"] else 1


def examine(build_now: bool) -> Report:
    """Return the whole report; its ``ok`` says whether nothing is wrong.

    Args:
        build_now: Compile the library if it is not there.

    Raises:
        UserError: ``RTIL_OPS`` has no valid value.
    """
    choice("conv2d", torch.device("cpu"))  # raises at once if RTIL_OPS is not valid
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    library = _library(build_now)
    report: Report = {
        "versions": versions(),
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
    wrong = library["state"] == "failed" or any(row["tier"] is None for row in report["tiers"])
    report["ok"] = not wrong and all(row["ok"] for row in report["selftest"])
    return report


def as_text(report: Report) -> Iterator[str]:
    """Yield the lines of a report."""
    yield _line("versions", ", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    cpu = dict(report["cpu"])
    about = f"{cpu.pop('name')}, {cpu.pop('cores')} cores"
    yield _line("cpu", f"{about}, {', '.join(f'{name} {_yes(there)}' for name, there in cpu.items())}")
    for gpu in report["gpus"] or [None]:
        yield _line("gpu", f"{gpu['name']}, {gpu['arch']}, {gpu['memory_gib']} GiB" if gpu else "none")
    yield _line("compiler", report["compiler"])
    yield _line("nvcc", report["cuda"])
    library = report["library"]
    yield _line("fused ops", library["file"] or library["problem"])
    if library["file"] and library["problem"]:
        yield _line("", library["problem"])
    if library["seconds"] is not None:
        yield _line("", f"built in {library['seconds']} s")
    for net, state in report["lpips"].items():
        yield _line(f"lpips {net}", state)
    yield "\nwhat runs"
    for row in report["tiers"]:
        reason = "see fused ops" if row["reason"] == library["problem"] else row["reason"]
        yield f"  {row['op']:<20} {row['device']:<5} {row['dtype']:<9} {row['tier'] or 'none':<7} {reason}"
    yield "\nself-test against the reference: value, gradients, second-order gradients"
    worst: dict[tuple[str, str, str, str], Report] = {}
    for row in report["selftest"]:
        key = (row["op"], row["device"], row["dtype"], row["tier"])
        if key not in worst or (worst[key]["ok"] and (not row["ok"] or row["error"] > worst[key]["error"])):
            worst[key] = row
    for (op, device, dtype, tier), row in worst.items():
        yield f"  {op:<20} {device:<5} {dtype:<9} {tier:<7} {_verdict(row)}"
    failures = sum(not row["ok"] for row in worst.values())
    yield f"\n{failures} of {len(worst)} self-tests failed" if failures else "\nall self-tests ok"
    if not report["ok"] and not failures:
        yield "but not all of this machine: see above"


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
    return "weights are here" if found else "no weights: python -m rtil.weights lpips"


def _line(name: str, text: str) -> str:
    return f"{name:<12}{text}"


def _verdict(row: Report) -> str:
    if row["ok"]:
        return f"ok, max error {row['error']:.0e}"
    found = "not a number" if row["error"] is None else f"max error {row['error']:.0e}, may be {row['limit']:.0e}"
    return f"FAIL, {row['complaint'] or found}"


def _yes(there: bool) -> str:
    return "yes" if there else "no"


if __name__ == "__main__":
    sys.exit(main())
