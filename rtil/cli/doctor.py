"""``rtil doctor``: what is installed, which tier runs every operation and why, and whether it computes right.

Exit codes: 0 when every operation passes its self-test, 1 when one fails (or the build asked for does), 2 for a mistake
in the command.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtil.cli.common import Prepared, run_command


@dataclass
class DoctorOptions:
    """Say which tier runs every operation and why, and whether it computes right.

    Args:
        build: Compile the fused operations now if they are not there.
        json: Print the report as JSON.
    """

    build: bool = False
    json: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(open_checkup, DoctorOptions, argv, "rtil doctor")


def open_checkup(options: DoctorOptions) -> Prepared:
    """Check what the environment asks for."""
    from rtil.checkup import check_tier, examine

    check_tier()

    def run() -> int:
        report = examine(options.build)
        print(json.dumps(report, indent=1) if options.json else "\n".join(as_text(report)))
        return 0 if report["ok"] else 1

    return Prepared([f"test every operation{', after compiling the fused ones' if options.build else ''}"], run)


def as_text(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a report."""
    yield _line("versions", ", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    broken = {name: state for name, state in report["packages"].items() if state != "ok"}
    yield _line("packages", "all can be imported" if not broken else "broken: " + ", ".join(broken))
    for name, state in broken.items():
        yield _line("", f"{name}: {state}")
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
    worst: dict[tuple[str, str, str, str], Mapping[str, Any]] = {}
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


def _line(name: str, text: str) -> str:
    return f"{name:<12}{text}"


def _verdict(row: Mapping[str, Any]) -> str:
    if row["ok"]:
        return f"ok, max error {row['error']:.0e}"
    found = "not a number" if row["error"] is None else f"max error {row['error']:.0e}, may be {row['limit']:.0e}"
    return f"FAIL, {row['complaint'] or found}"


def _yes(there: bool) -> str:
    return "yes" if there else "no"


if __name__ == "__main__":
    sys.exit(main())
