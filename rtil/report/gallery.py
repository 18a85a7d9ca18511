"""Galleries: in each cell of an evaluation the truth, the measurement and what every method made of it.

Pictures come from the evaluation's folder. Measurements are not kept there: they are taken anew from the truth, which
is bytes, by the operator and the noise that the settings name, so they are the very ones. A picture whose content is
not what its rows were computed of is not shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtil.data.images import read_image
from rtil.errors import UserError
from rtil.evaluation.candidates import CLASSIFIER
from rtil.evaluation.conditions import Condition
from rtil.evaluation.figures import show_measurement
from rtil.evaluation.folder import IDENTITY, OPTIONS, SOLVERS
from rtil.evaluation.folder import PICTURES as IDS
from rtil.evaluation.guided import WantedClass
from rtil.evaluation.held_out import picture_hash
from rtil.evaluation.jobs import slug_of
from rtil.evaluation.rows import Level, Row
from rtil.evaluation.runner import PICTURES, SPREAD, TRUTH
from rtil.evaluation.summary import Line
from rtil.inverse.operators import OPERATORS
from rtil.ranges import to_uint8
from rtil.reading import read_file
from rtil.report.parts import Evaluated, name_of
from rtil.report.sheets import Layout, most_pictures, sheets_of

AT_ONCE = 8
"""Pictures that are measured at a time."""


@dataclass
class Gallery:
    """What a page needs to show the pictures of one evaluation.

    Attributes:
        data: Names, numbers and places of pictures, as JSON values.
        sheets: Base64 texts by the id of their element.
        notes: What is not shown, and why.
    """

    data: dict[str, Any]
    sheets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gallery_of(evaluated: Evaluated, prefix: str) -> Gallery | None:
    """Return the gallery of an evaluation; None where no picture was kept.

    Args:
        evaluated: The evaluation.
        prefix: Of the ids of its sheets.
    """
    pictures = _Pictures(evaluated)
    if not pictures.shown:
        return None
    lines = evaluated.summary.lines
    cells = list(dict.fromkeys((line.task, line.level) for line in lines))
    columns = 1 + len(cells) + len(lines)
    kept = pictures.shown
    room = most_pictures(pictures.side, columns)
    pictures.shown = kept[:room]
    layout = Layout.of(pictures.side, len(pictures.shown), columns)
    gallery = Gallery({"layout": layout._asdict(), "pictures": [pictures.ids[index] for index in pictures.shown]})
    if len(kept) > room:
        gallery.notes.append(f"The galleries show the first {room} of {len(kept)} kept pictures, for the page's size.")
    if not layout.is_lossless:
        gallery.notes.append("Pictures of this page are slightly compressed; numbers are those of the files.")

    def add(name: str, column: Sequence[Tensor | None]) -> str | None:
        if all(picture is None for picture in column):
            return None
        for number, text in enumerate(sheets_of(column, layout)):
            gallery.sheets[f"{prefix}-{name}-{number}"] = text
        return f"{prefix}-{name}"

    gallery.data["truth"] = add("truth", pictures.truth)
    gallery.data["cells"] = []
    for number, (task, level) in enumerate(cells):
        own = [line for line in lines if (line.task, line.level) == (task, level)]
        measured, why = pictures.measured(own[0])
        gallery.notes += [f"{own[0].condition}: {why}"] if why else []
        cell: dict[str, Any] = {"task": task, "level": str(level), "label": own[0].condition, "columns": []}
        cell["measured"] = add(f"m{number}", measured)
        for place, line in enumerate(own):
            column = {"name": name_of(line), "method": line.method, "prior": line.checkpoint} | pictures.values(line)
            column["sheet"] = add(f"c{number}-{place}", pictures.results(line))
            column["spread"] = add(f"s{number}-{place}", pictures.spreads(line))
            cell["columns"].append(column)
        gallery.data["cells"].append(cell)
    return gallery


def condition_of(task: str, level: Level, settings: Mapping[str, Any]) -> Condition | None:
    """Return the condition of a task at a level of an evaluation; None where there is no such operator any more."""
    if task not in OPERATORS:
        return None
    if level is None:
        return Condition(task, None, {})
    if isinstance(level, str):
        mask = settings[OPTIONS].get("mask")
        return Condition(task, level, {"mask": mask}) if mask and Path(mask).stem == level else None
    return Condition(task, level, {OPERATORS[task].parameters[0]: level}) if OPERATORS[task].parameters else None


class _Pictures:
    """The kept pictures of an evaluation; ``shown`` are the indices of those in its gallery."""

    def __init__(self, evaluated: Evaluated) -> None:
        self.folder, self.settings = evaluated.folder / PICTURES, evaluated.settings
        self.evaluated, self.seed = evaluated, int(self.settings[OPTIONS].get("seed") or 0)
        self.ids: list[str] = list(self.settings.get(IDS, []))
        self.content = {row.image: row.picture for row in evaluated.rows if row.picture}
        numbers = {path.stem for folder in self.folder.glob("*") for path in folder.glob("[0-9]*.png")}
        self.shown = sorted(int(name) for name in numbers if name.isdecimal() and int(name) < len(self.ids))
        self.side = self._side()

    @cached_property
    def truth(self) -> list[Tensor | None]:
        """The truth, uint8 [3, R, R] each, where it is what was measured."""
        return [self._truth(index) for index in self.shown]

    def results(self, line: Line) -> list[Tensor | None]:
        """Return what came out."""
        return [self._read(self._slug(line), index) for index in self.shown]

    def spreads(self, line: Line) -> list[Tensor | None]:
        """Return the standard deviation of several attempts, where it was kept."""
        slug = f"{self._slug(line)}{SPREAD}"
        if not (self.folder / slug).is_dir():
            return []
        return [self._read(slug, index) for index in self.shown]

    def values(self, line: Line) -> dict[str, Any]:
        """Return what each picture is worth, and which diverged."""
        rows = {row.image: row for row in self.evaluated.rows_of(line) if row.seed == self.seed}
        found = [rows.get(self.ids[index]) for index in self.shown]
        diverged = [place for place, row in enumerate(found) if row is not None and row.status != "ok"]
        return {"values": [None if row is None else _worth(row) for row in found], "diverged": diverged}

    def measured(self, line: Line) -> tuple[list[Tensor | None], str]:
        """Return what a cell's measurements look like, and why there are none."""
        there = [place for place, picture in enumerate(self.truth) if picture is not None]
        if line.task == CLASSIFIER or not there:
            return [], ""
        try:
            condition = condition_of(line.task, line.level, self.settings)
            record = self.settings.get(SOLVERS, {}).get(line.settings, {})
            if condition is None or not condition.settings().items() <= record.items():
                return [], "the measurement is not shown, as its mask is not that of the evaluation any more."
            noise = float(self.settings.get(IDENTITY, {}).get("noise_sigma") or 0.0)
            operator = condition.operator(self.side, self.seed, noise)
            found: list[Tensor | None] = [None] * len(self.truth)
            for start in range(0, len(there), AT_ONCE):
                places = there[start : start + AT_ONCE]
                x = (
                    torch.stack([picture for place in places if (picture := self.truth[place]) is not None]).float()
                    / 255
                )
                y = operator(x, [self.ids[self.shown[place]] for place in places])
                for place, picture in zip(places, show_measurement(y, operator), strict=True):
                    found[place] = to_uint8(picture).expand(3, -1, -1)
        except UserError as error:
            return [], f"the measurement is not shown ({error})."
        return found, ""

    def _truth(self, index: int) -> Tensor | None:
        picture = self._read(TRUTH, index)
        wanted = self.content.get(self.ids[index], "")
        return picture if picture is None or wanted in ("", picture_hash(picture)) else None

    def _slug(self, line: Line) -> str:
        record = self.settings.get(SOLVERS, {}).get(line.settings, {})
        if line.task == CLASSIFIER:
            return slug_of(WantedClass(int(record.get("class", -1)), str(line.level)), *_place(line))
        return slug_of(Condition(line.task, line.level, {}), *_place(line))

    def _side(self) -> int:
        """Return the side of the first kept picture that can be read; 0 without one."""
        for path in sorted(self.folder.glob("*/[0-9]*.png")):
            picture = _read(path)
            if picture is not None:
                return picture.shape[-1]
        return 0

    def _read(self, slug: str, index: int) -> Tensor | None:
        picture = _read(self.folder / slug / f"{index:02d}.png")
        return picture if picture is not None and picture.shape == (3, self.side, self.side) else None


def _place(line: Line) -> tuple[str, str, str, str]:
    return line.method, line.selection, line.checkpoint, line.settings


def _worth(row: Row) -> float | str | None:
    """Return dB, or the probability of the class; infinite ones as text, since JSON has none."""
    value = float(row.scores.get("probability_after", math.nan)) if row.scores else row.psnr
    if math.isnan(value):
        return None
    return round(value, 4) if math.isfinite(value) else str(value)


def _read(path: Path) -> Tensor | None:
    try:
        return read_image(read_file(path, "picture"), str(path))
    except (OSError, UserError):
        return None
