"""Runs a list of jobs, or a shard's share: many pictures at a time, finished rows skipped, each batch's rows on disk.

What a process finds finished is looked up once, when it starts, in the files of all shards; which parts are its own
does not depend on that.
"""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from rtil.data.images import read_image
from rtil.errors import UserError
from rtil.evaluation.batches import Batches
from rtil.evaluation.figures import GREY, picture_grid, spread_colours
from rtil.evaluation.jobs import Experiment, Job
from rtil.evaluation.rows import ROWS, Row, RowFile
from rtil.evaluation.shards import Part, Shard, parts, row_files, share
from rtil.inverse.operators import Operator
from rtil.inverse.registry import solver_class
from rtil.pictures import save_png
from rtil.reading import read_file
from rtil.snapshot import Snapshot

PICTURES = "pictures"
TRUTH = "truth"
"""Folder of the original pictures."""
SPREAD = "-spread"
"""End of the folder of a job's spread."""
WHITE_SPREAD = 0.2
"""The standard deviation that is white in it, so that methods can be compared."""

log = logging.getLogger(__name__)


class Runner:
    """Computes the rows of jobs that are not yet in a folder.

    Args:
        experiment: What is measured.
        jobs: The list, from :func:`rtil.evaluation.jobs.resolve`.
        checkpoints: Snapshots by name.
        folder: The run folder: ``rows.jsonl``, ``grid-*.png``, and ``pictures/``, the first results and the truth.
        seed: Root seed of the solvers.
        batch: Pictures at a time, see :class:`rtil.evaluation.batches.Batches`.
        shard: Which share of the list is computed; None for all of it.
    """

    def __init__(
        self,
        experiment: Experiment,
        jobs: Sequence[Job],
        checkpoints: Mapping[str, Snapshot],
        folder: Path,
        seed: int = 0,
        batch: int | None = None,
        shard: Shard | None = None,
    ) -> None:
        self.experiment, self.jobs, self.checkpoints = experiment, jobs, checkpoints
        self.folder, self.seed, self.shard = folder, seed, shard
        device = next(iter(checkpoints.values())).generator.device
        self.batches = Batches(batch, experiment.resolution, device)
        self.all_parts = parts(jobs, len(experiment.ids), self.batches.size)
        self.parts = share(self.all_parts, shard)
        own = folder / (ROWS if shard is None else shard.file)
        self.file = RowFile(own, [path for path in row_files(folder) if path != own])

    def run(self) -> list[Row]:
        """Compute what is missing; returns all rows of the folder."""
        progress = Progress(sum(len(self._missing(part)) for part in self.parts), self.shard)
        if self.shard is None:
            self.write_originals()
        for condition in self.experiment.conditions:
            todo = [part for part in self.parts if part[0].condition == condition and self._missing(part)]
            operator = self.experiment.operator(condition) if todo else None
            for job, own in groupby(todo, key=lambda part: part[0]):
                assert operator is not None  # noqa: S101
                self._run(job, list(own), operator, progress)
        progress.close()
        return self.file.rows()

    def write_originals(self) -> None:
        """Write what kept results are compared with."""
        for index, picture in enumerate(self.experiment.originals()):
            if index not in self.experiment.gone:
                save_png(picture, self._path(TRUTH, index))

    def write_grids(self) -> list[Path]:
        """Write the experiment's grids."""
        written = []
        for grid in self.experiment.grids(self.jobs, self):
            written.append(self.folder / f"{grid.name}.png")
            picture_grid(grid.columns, written[-1], grid.rows)
        return written

    def _missing(self, part: Part[Job]) -> list[int]:
        job, indices = part
        gone = self.experiment.gone
        return [index for index in indices if index not in gone and job.keys[index] not in self.file]

    def _run(self, job: Job, own: Sequence[Part[Job]], operator: Operator, progress: "Progress") -> None:
        snapshot, solver = self.checkpoints.get(job.checkpoint), None
        if job.settings is not None:
            assert snapshot is not None and job.candidate is not None  # noqa: S101, PT018
            solver = solver_class(job.candidate.method)(snapshot.generator, job.settings, seed=self.seed)
        trained = {} if snapshot is None else snapshot.info
        common: dict[str, Any] = {
            "selection": job.selection,
            "kimg": float(trained.get("kimg", "nan")),
            "arch": str(trained.get("arch", "")),
            "rtil": bool(trained.get("rtil")),
            "trained_otherwise": job.trained_otherwise,
        }
        for part in own:
            missing = self._missing(part)
            work = self.batches.over(missing, lambda indices: self.experiment.invert(job, solver, operator, indices))
            for indices, batch in work:
                self._save(job.slug, indices, batch.x)  # before the rows, which say that all of this is done
                if batch.spread is not None:
                    self._save(job.slug + SPREAD, indices, spread_colours(batch.spread, WHITE_SPREAD))
                rows = [
                    Row(**job.keys[index]._asdict(), **common, **values, picture=self.experiment.content(index))
                    for index, values in zip(indices, batch.values, strict=True)
                ]
                self.file.extend(rows)
                progress.advance(job, rows)

    def _path(self, slug: str, index: int) -> Path:
        return self.folder / PICTURES / slug / f"{index:02d}.png"

    def _save(self, slug: str, indices: Sequence[int], x: Tensor) -> None:
        for index, picture in zip(indices, x, strict=True):
            if index < self.experiment.kept:
                save_png(picture, self._path(slug, index))

    def spread(self, job: Job, count: int) -> Tensor | None:
        """Return how sure each saved picture is; see :class:`rtil.evaluation.jobs.Saved`."""
        slug = job.slug + SPREAD
        return self._saved(job, slug, count) if (self.folder / PICTURES / slug).is_dir() else None

    def __call__(self, job: Job, count: int) -> Tensor:
        """Return the saved pictures; in place of one that was deleted or damaged, grey."""
        return self._saved(job, job.slug, count)

    def _saved(self, job: Job, slug: str, count: int) -> Tensor:
        snapshot = self.checkpoints.get(job.checkpoint)
        side = self.experiment.resolution if snapshot is None else snapshot.generator.resolution
        paths = [self._path(slug, index) for index in range(count)]
        found = [_read(path, side) for path in paths]
        lost = sum(picture is None for picture in found)
        if lost:
            log.warning("%s: pictures gone or damaged: %d of %d; grids show grey", paths[0].parent, lost, count)
        return torch.stack([torch.full((3, side, side), GREY) if picture is None else picture for picture in found])


def _read(path: Path, side: int) -> Tensor | None:
    """Return a saved picture [3, side, side] in [0, 1]; None where there is none any more."""
    try:
        picture = read_image(read_file(path, "picture"), str(path)).float() / 255
    except (OSError, UserError):
        return None
    return picture if picture.shape == (3, side, side) else None


class Progress:
    """A bar on a terminal, elsewhere, and of a shard, which may have others beside it, a line for each batch.

    Args:
        total: Rows to compute.
        shard: Whose they are.
    """

    def __init__(self, total: int, shard: Shard | None = None) -> None:
        self.total, self.done, self.started = total, 0, time.perf_counter()
        self.whose = "" if shard is None else f"[{shard}] "
        self.bar = tqdm(total=total, unit="image") if sys.stderr.isatty() and total and shard is None else None

    def advance(self, job: Job, rows: Sequence[Row]) -> None:
        """Tell of a finished batch."""
        self.done += len(rows)
        text = f"{self.whose}{job.condition.label}, {job.name}: {_result(rows)}"
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(len(rows))
            return
        left = (time.perf_counter() - self.started) * (self.total / self.done - 1)
        print(f"{text} on {len(rows)} images; {self.done}/{self.total} done, about {left:.0f} s left", flush=True)

    def close(self) -> None:
        """Leave the terminal in order."""
        if self.bar is not None:
            self.bar.close()


def _result(rows: Sequence[Row]) -> str:
    if not rows[0].scores:
        return f"{sum(row.psnr for row in rows) / len(rows):.2f} dB"
    before, after = (
        sum(float(row.scores[f"probability_{when}"]) for row in rows) / len(rows) for when in ("before", "after")
    )
    return f"p {before:.3f} -> {after:.3f}"
