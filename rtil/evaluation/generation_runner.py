"""Runs a classifier-guided generation: finished pictures skipped, rows on disk after every batch.

What a picture is worth is told of the 8-bit picture that is saved, so that a probability is that of what one sees.
"""

import csv
import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtil.data.images import read_image
from rtil.errors import UserError
from rtil.evaluation.figures import picture_grid, to_pillow
from rtil.evaluation.generation import Cell, Generation, picture_ids, radius_text
from rtil.files import atomic_path, write_text
from rtil.inverse.classifier import Classification
from rtil.ranges import to_uint8

START = "start"


@dataclass(frozen=True)
class GeneratedRow:
    """One generated picture.

    Attributes:
        picture: Its number; pictures of one number start alike.
        method: "ilo" or "csgm".
        checkpoint: Name given to the checkpoint.
        class_index: Number of the wanted class.
        class_name: Its name.
        radius: Factor of the radii of the l1 balls, or "none" for no ball.
        seed: Root seed.
        settings: Hash of everything else that decides the picture.
        probability_before: Of the class, at the start.
        probability_after: Of the class, at the end.
        top_before: The classifier's likeliest class at the start.
        top_after: At the end.
        rms_change: Root mean squared difference from the start; pictures are in [0, 1].
        seconds: Time of the optimisation, divided among the pictures of its batch.
        status: "ok" or "diverged".
    """

    picture: int
    method: str
    checkpoint: str
    class_index: int
    class_name: str
    radius: str
    seed: int
    settings: str
    probability_before: float
    probability_after: float
    top_before: str
    top_after: str
    rms_change: float
    seconds: float
    status: str = "ok"

    @property
    def key(self) -> tuple[int, str]:
        """The row's identity in its file: the settings name all else."""
        return self.picture, self.settings


class GenerationRunner:
    """Makes the pictures of a generation that are not yet in its folder.

    The folder holds ``rows.jsonl`` (one row for each picture), ``pictures/`` and, at the end, ``summary.csv`` and a
    grid for each method and checkpoint.

    Args:
        generation: What to do.
        folder: The run folder.
        batch: Pictures at a time; None for all of a cell.
    """

    def __init__(self, generation: Generation, folder: Path, batch: int | None = None) -> None:
        self.generation, self.folder = generation, folder
        self.batch = batch or generation.pictures
        self.cells = generation.cells()
        self.rows = {row.key: row for row in read_rows(folder / "rows.jsonl")}
        self.started, self.made = time.perf_counter(), 0

    def run(self) -> list[GeneratedRow]:
        """Make what is missing; returns the rows of all cells, those of other settings left out."""
        for cell in self.cells:
            missing = self._missing(cell)
            for first in range(0, len(missing), self.batch):
                self._make(cell, missing[first : first + self.batch])
        return [self.rows[key] for cell in self.cells for key in self._keys(cell)]

    def summary(self) -> list[dict[str, Any]]:
        """Return the line of each cell."""
        return [summary_of(cell, [self.rows[key] for key in self._keys(cell)]) for cell in self.cells]

    def write_summary(self) -> Path:
        """Write the mean of each cell to ``summary.csv``."""
        means = self.summary()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(means[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(means)
        path = self.folder / "summary.csv"
        write_text(path, text.getvalue())
        return path

    def write_grids(self) -> Iterator[Path]:
        """Write the grids: columns are the start and every radius; a class has as many rows as pictures."""
        for method, checkpoint in dict.fromkeys((cell.method, cell.checkpoint) for cell in self.cells):
            own = [cell for cell in self.cells if (cell.method, cell.checkpoint) == (method, checkpoint)]
            count = self.generation.pictures
            start = self._start(own[0], range(count)).cpu()
            columns = {START: torch.cat([start] * len(self.generation.classes))}
            for radius in self.generation.radii:
                here = [self._saved(cell) for cell in own if cell.radius == radius]
                columns[radius_text(radius)] = torch.cat(here)
            names = [self.generation.classifier.categories[index] for index in self.generation.classes]
            path = self.folder / f"grid-{method}-{checkpoint}.png"
            picture_grid(columns, path, [name for name in names for _ in range(count)])
            yield path

    def _make(self, cell: Cell, pictures: Sequence[int]) -> None:
        task = self._task(cell)
        before = self._start(cell, pictures)
        y = task.target([cell.class_index] * len(pictures))
        solver = self.generation.solver(cell.method, self.generation.checkpoints[cell.checkpoint], cell.radius)
        found = solver.invert(y, task, picture_ids(pictures))
        after = as_saved(found.x)
        with torch.no_grad():
            p_before, p_after = task.A(before).exp().cpu(), task.A(after).exp().cpu()
        change = (after - before).square().mean((1, 2, 3)).sqrt().tolist()
        names = self.generation.classifier.categories
        for n, index in enumerate(pictures):
            with atomic_path(self._path(cell, index)) as temporary:  # before the row, which says that it is done
                to_pillow(after[n]).save(temporary, format="PNG")
            row = GeneratedRow(
                picture=index,
                method=cell.method,
                checkpoint=cell.checkpoint,
                class_index=cell.class_index,
                class_name=cell.class_name,
                radius=cell.radius,
                seed=self.generation.seed,
                settings=cell.settings,
                probability_before=p_before[n, cell.class_index].item(),
                probability_after=p_after[n, cell.class_index].item(),
                top_before=names[int(p_before[n].argmax())],
                top_after=names[int(p_after[n].argmax())],
                rms_change=change[n],
                seconds=found.seconds / len(pictures),
                status=found.status[n],
            )
            self.rows[row.key] = row
        write_text(self.folder / "rows.jsonl", "".join(f"{json.dumps(asdict(row))}\n" for row in self.rows.values()))
        self._tell(cell, [self.rows[index, cell.settings] for index in pictures])

    def _task(self, cell: Cell) -> Classification:
        G, classifier = self.generation.checkpoints[cell.checkpoint].generator, self.generation.classifier
        return Classification(classifier, (3, G.resolution, G.resolution), len(classifier.categories)).to(G.device)

    def _start(self, cell: Cell, pictures: Sequence[int]) -> Tensor:
        """Return the pictures where a cell starts, as they would be saved."""
        snapshot, task = self.generation.checkpoints[cell.checkpoint], self._task(cell)
        parts = [pictures[first : first + self.batch] for first in range(0, len(pictures), self.batch)]
        return torch.cat([as_saved(self.generation.starts(cell.method, snapshot, part, task)) for part in parts])

    def _tell(self, cell: Cell, rows: Sequence[GeneratedRow]) -> None:
        self.made += len(rows)
        left = sum(len(self._missing(other)) for other in self.cells)
        seconds = (time.perf_counter() - self.started) / self.made * left
        before, after = (_mean([getattr(row, f"probability_{when}") for row in rows]) for when in ("before", "after"))
        print(f"{cell.label}: p {before:.3f} -> {after:.3f}; {left} left, about {seconds:.0f} s", flush=True)

    def _keys(self, cell: Cell) -> list[tuple[int, str]]:
        return [(index, cell.settings) for index in range(self.generation.pictures)]

    def _missing(self, cell: Cell) -> list[int]:
        return [index for index, settings in self._keys(cell) if (index, settings) not in self.rows]

    def _path(self, cell: Cell, index: int) -> Path:
        return self.folder / "pictures" / cell.slug / f"{index:03d}.png"

    def _saved(self, cell: Cell) -> Tensor:
        paths = [self._path(cell, index) for index in range(self.generation.pictures)]
        return torch.stack([read_image(path.read_bytes(), str(path)).float() / 255 for path in paths])


def as_saved(x: Tensor) -> Tensor:
    """Return pictures [N, 3, H, W] in [0, 1] as they are after 8-bit rounding."""
    return to_uint8(x).float() / 255


def summary_of(cell: Cell, rows: Sequence[GeneratedRow]) -> dict[str, Any]:
    """Return a cell's line of the summary, the means over its pictures; recognised are those whose top class it is."""
    return {
        "method": cell.method,
        "checkpoint": cell.checkpoint,
        "class": cell.class_name,
        "radius": cell.radius,
        "pictures": len(rows),
        "probability_before": _mean([row.probability_before for row in rows]),
        "probability_after": _mean([row.probability_after for row in rows]),
        "recognised_before": _mean([float(row.top_before == row.class_name) for row in rows]),
        "recognised_after": _mean([float(row.top_after == row.class_name) for row in rows]),
        "rms_change": _mean([row.rms_change for row in rows]),
        "seconds": _mean([row.seconds for row in rows]),
        "diverged": sum(row.status != "ok" for row in rows),
    }


def read_rows(path: Path) -> list[GeneratedRow]:
    """Read ``rows.jsonl``; none where there is no file.

    Raises:
        UserError: A line is not a row.
    """
    if not path.is_file():
        return []
    names = {f.name for f in fields(GeneratedRow)}
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values = json.loads(line)
            rows.append(GeneratedRow(**{name: value for name, value in values.items() if name in names}))
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} line {number} is not a row ({error}): mend or delete that line") from error
    return rows


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
