"""Figures: a median with its spread, and rows in files.

One file a benchmark, one JSON object a line: date (UTC), machine, command, figures. A row is added by writing the whole
file anew and renaming it, under a lock, so that no kill leaves half a row and no two processes lose one. Folders are
taken out of absolute paths.
"""

import json
import re
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from rtil.files import write_text
from rtil.locks import locked

RESULTS = Path(__file__).parent / "results"
ABSOLUTE_FOLDERS = re.compile(r"(?<![^\s=,:'\"])~?(?:/[^/\s]+)*/(?=[^/\s])")
DIGITS = 4


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, with the lowest and the highest."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value.

        Example:
            >>> str(Spread.of([3.0, 1.0, 2.0]))
            '2 (1-3)'
        """
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        if self.repeats == 1:
            return f"{self.median:.3g}"
        return f"{self.median:.3g} ({self.low:.3g}-{self.high:.3g})"

    def as_json(self) -> dict[str, float]:
        """Return the figures, to four digits."""
        return {name: float(f"{getattr(self, name):.{DIGITS}g}") for name in ("median", "low", "high")}


def append_row(folder: Path, name: str, command: Sequence[str], figures: dict[str, Any]) -> Path:
    """Append a row to the file of a benchmark and return its path.

    Args:
        folder: Of the file, made if need be.
        name: Of the benchmark.
        command: The words of the command line.
        figures: JSON values, all numbers finite.
    """
    row = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "command": without_folders(shlex.join(command)),
        "figures": figures,
    }
    line = json.dumps(row, allow_nan=False) + "\n"
    path = folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent / ".lock"):
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        write_text(path, before + line)
    return path


def without_folders(text: str) -> str:
    """Return a command line whose absolute paths have lost their folders.

    Example:
        >>> without_folders("x --checkpoints rtil=/home/me/runs/rtil --out /tmp/a --data faces/b.zip")
        'x --checkpoints rtil=rtil --out a --data faces/b.zip'
    """
    return ABSOLUTE_FOLDERS.sub("", text)
