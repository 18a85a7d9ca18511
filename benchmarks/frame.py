"""How every benchmark is run: options, tables, and a row of figures if asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import PROG, record
from rtil.cli.common import Prepared, run_command
from rtil.errors import RunError, UserError


@dataclass
class Recorded:
    """Options of every benchmark.

    Args:
        record: Append the figures, with date, machine and command, as a row to NAME.jsonl in this folder; without a
            value in benchmarks/results.
    """

    record: Path | None = None


Options = TypeVar("Options", bound=Recorded)


def run_benchmark(
    name: str, measure: Callable[[Options], dict[str, Any]], options: type[Options], argv: Sequence[str]
) -> int:
    """Run a benchmark and return its exit code.

    Args:
        name: As in ``python -m benchmarks NAME``.
        measure: Prints tables and returns the figures as JSON values.
        options: Dataclass of its options.
        argv: Arguments behind the name.
    """

    def run(chosen: Options) -> None:
        try:
            figures = measure(chosen)
        except UserError as error:  # a benchmark opens what it measures as it goes
            raise RunError(str(error)) from error
        if chosen.record is not None:
            path = record.append_row(chosen.record, name, [*PROG.split(), name, *argv], figures)
            print(f"recorded in {path.parent.name}/{path.name}")

    def open_benchmark(chosen: Options) -> Prepared:
        return Prepared([f"measure {name}"], lambda: run(chosen))

    return run_command(open_benchmark, options, argv, f"{PROG} {name}", bare={"record": str(record.RESULTS)})


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below a head, columns aligned: the first to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print(" | ".join(cells), flush=True)
