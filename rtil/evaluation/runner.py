"""Runs a list of jobs: many pictures at a time, finished rows skipped, rows on disk after every batch."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from rtil.data.images import read_image
from rtil.evaluation.batches import Batches
from rtil.evaluation.figures import picture_grid
from rtil.evaluation.jobs import Experiment, Job
from rtil.evaluation.rows import Row, RowFile
from rtil.inverse.operators import Operator
from rtil.inverse.registry import solver_class
from rtil.pictures import save_png
from rtil.snapshot import Snapshot

PICTURES = "pictures"
TRUTH = "truth"
"""Folder of the original pictures."""


class Runner:
    """Computes the rows of jobs that are not yet in a folder.

    Args:
        experiment: What is measured.
        jobs: The list, from :func:`rtil.evaluation.jobs.resolve`.
        checkpoints: Snapshots by name.
        folder: The run folder: ``rows.jsonl``, ``grid-*.png``, and ``pictures/``, the first results and the truth.
        seed: Root seed of the solvers.
        batch: Pictures at a time, see :class:`rtil.evaluation.batches.Batches`.
    """

    def __init__(
        self,
        experiment: Experiment,
        jobs: Sequence[Job],
        checkpoints: Mapping[str, Snapshot],
        folder: Path,
        seed: int = 0,
        batch: int | None = None,
    ) -> None:
        self.experiment, self.jobs, self.checkpoints = experiment, jobs, checkpoints
        self.folder, self.seed = folder, seed
        device = next(iter(checkpoints.values())).generator.device
        self.batches = Batches(batch, experiment.resolution, device)
        self.file = RowFile(folder / "rows.jsonl")

    def run(self) -> list[Row]:
        """Compute what is missing; returns all rows of the folder's file."""
        progress = Progress(sum(len(self._missing(job)) for job in self.jobs))
        for index, picture in enumerate(self.experiment.originals()):
            save_png(picture, self._path(TRUTH, index))
        for condition in self.experiment.conditions:
            operator = self.experiment.operator(condition)
            for job in self.jobs:
                if job.condition == condition:
                    self._run(job, operator, progress)
        progress.close()
        return self.file.rows()

    def write_grids(self) -> list[Path]:
        """Write the experiment's grids."""
        written = []
        for grid in self.experiment.grids(self.jobs, self._saved):
            written.append(self.folder / f"{grid.name}.png")
            picture_grid(grid.columns, written[-1], grid.rows)
        return written

    def _missing(self, job: Job) -> list[int]:
        return [index for index, key in enumerate(job.keys) if key not in self.file]

    def _run(self, job: Job, operator: Operator, progress: "Progress") -> None:
        missing = self._missing(job)
        if not missing:
            return
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
        work = self.batches.over(missing, lambda indices: self.experiment.invert(job, solver, operator, indices))
        for indices, batch in work:
            self._save(job, indices, batch.x)  # before the rows, which say that all of this is done
            rows = [
                Row(**job.keys[index]._asdict(), **common, **values)
                for index, values in zip(indices, batch.values, strict=True)
            ]
            self.file.extend(rows)
            progress.advance(job, rows)

    def _path(self, slug: str, index: int) -> Path:
        return self.folder / PICTURES / slug / f"{index:02d}.png"

    def _save(self, job: Job, indices: Sequence[int], x: Tensor) -> None:
        for index, picture in zip(indices, x, strict=True):
            if index < self.experiment.kept:
                save_png(picture, self._path(job.slug, index))

    def _saved(self, job: Job, count: int) -> Tensor:
        paths = [self._path(job.slug, index) for index in range(count)]
        return torch.stack([read_image(path.read_bytes(), str(path)).float() / 255 for path in paths])


class Progress:
    """A bar on a terminal, elsewhere a line for each batch.

    Args:
        total: Rows to compute.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.started = total, 0, time.perf_counter()
        self.bar = tqdm(total=total, unit="image") if sys.stderr.isatty() and total else None

    def advance(self, job: Job, rows: Sequence[Row]) -> None:
        """Tell of a finished batch."""
        self.done += len(rows)
        text = f"{job.condition.label}, {job.name}: {_result(rows)}"
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
