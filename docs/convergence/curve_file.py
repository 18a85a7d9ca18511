"""The finished runs of a folder, so that a later command makes only the missing ones.

``convergence.csv`` has a row for each look and is written anew, atomically, after each run; ``convergence.json`` has
the settings that all runs of the folder share.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from docs.convergence.report import Point
from rtil.errors import UserError
from rtil.files import atomic_path, write_text

CURVES, SETTINGS = "convergence.csv", "convergence.json"
CHECKPOINT = "checkpoint "
"""Before the names of those settings that only runs of one checkpoint share."""


class Key(NamedTuple):
    """Which run: its checkpoint, its name such as ``ilo 4 x 300``, and the number of its repeat, from 0."""

    checkpoint: str
    run: str
    repeat: int


class Looks(NamedTuple):
    """What a run showed: all looks in the order of time, and what each round returned with the time of its last."""

    points: list[Point]
    rounds: list[Point]


class CurveFile:
    """The runs of a folder.

    Args:
        folder: Is made if need be.
        settings: JSON values that must be those of the runs that it holds; "lpips" is None if points have none. Those
            that begin with :data:`CHECKPOINT` may be missing on either side.

    Attributes:
        path: The CSV file. Rows of what a round returned have ``returned`` 1.
        looks: {key: what the run showed}.

    Raises:
        UserError: The folder's settings are others, or its files cannot be read.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / CURVES
        self.looks: dict[Key, Looks] = {}
        self._fields = [name for name in Point._fields if name != "lpips" or settings["lpips"] is not None]
        path = folder / SETTINGS
        known: dict[str, Any] = {}
        if path.exists():
            try:
                known = dict(json.loads(path.read_text(encoding="utf-8")))
                self.looks = _read(self.path) if self.path.exists() else {}
            except (ValueError, LookupError, TypeError) as error:
                raise UserError(f"{folder} holds curves that cannot be read ({error!r}): give another --out") from error
            _check_same(settings, known, folder)
        elif self.path.exists():
            raise UserError(f"{folder} holds curves without {SETTINGS}, their settings: give another --out")
        write_text(path, json.dumps({**known, **settings}, indent=1) + "\n")

    def add(self, key: Key, looks: Looks) -> None:
        """Add a finished run; it is in the file when this returns."""
        self.looks[key] = looks
        with atomic_path(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*Key._fields, *self._fields, "returned"])
            for of_run, both in self.looks.items():
                for returned, points in enumerate(both):
                    values = ([getattr(point, name) for name in self._fields] for point in points)
                    writer.writerows([*of_run, *numbers, returned] for numbers in values)


def _check_same(ours: Mapping[str, Any], known: Mapping[str, Any], folder: Path) -> None:
    shared = [name for name in {**known, **ours} if not name.startswith(CHECKPOINT) or (name in ours and name in known)]
    other = [name for name in shared if name not in known or name not in ours or known[name] != ours[name]]
    if other:
        found = ", ".join(f"{name} {known.get(name, 'unknown')}, now {ours.get(name, 'none')}" for name in other)
        raise UserError(f"{folder} holds curves of other settings ({found}): give the same, or another --out")


def _read(path: Path) -> dict[Key, Looks]:
    found: dict[Key, Looks] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = Key(row["checkpoint"], row["run"], int(row["repeat"]))
            lpips = float(row["lpips"]) if "lpips" in row else None
            point = Point(int(row["round"]), int(row["step"]), float(row["seconds"]), float(row["mse"]), lpips)
            found.setdefault(key, Looks([], []))[int(row["returned"])].append(point)
    return found
