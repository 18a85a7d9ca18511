"""Runs a study: many pictures at a time, finished rows skipped, rows on disk after every batch.

Besides each method's own result a row holds what the truth alone can tell: the PSNR of the iterate nearest to it (the
oracle), watched through the solver's callback, and the PSNR after every round. The time that watching takes is not
counted among a method's seconds.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from rtil.data.images import read_image
from rtil.devices import wait_for
from rtil.evaluation.batches import Batches
from rtil.evaluation.figures import picture_grid, show_measurement, to_pillow
from rtil.evaluation.linear_prior import LinearPrior
from rtil.evaluation.metrics import Metrics, psnr
from rtil.evaluation.rows import Row, RowFile
from rtil.evaluation.stopwatch import Stopwatch
from rtil.evaluation.study import Study, Work
from rtil.evaluation.summary import LINEAR
from rtil.files import atomic_path
from rtil.inverse.latents import latent_space_of
from rtil.inverse.losses import measurement_error
from rtil.inverse.operators import Operator
from rtil.inverse.result import converged_of

SHOWN = 8
"""Pictures of a grid."""
PICTURES = "pictures"


class Results(NamedTuple):
    """What any method says of one batch.

    Attributes:
        x: [N, 3, R, R] in [0, 1], clamped.
        status: [N].
        seconds: Of the whole batch.
        oracle: [N], dB.
        rounds: [N] lists, dB after each round.
        converged: [N], of methods that know; else None.
    """

    x: Tensor
    status: Sequence[str]
    seconds: float
    oracle: list[float]
    rounds: list[list[float]]
    converged: list[bool] | None = None


Invert = Callable[[Tensor, Tensor, Sequence[str]], Results]
"""Called as invert(y, truth, image_ids); only the oracle may look at the truth."""


class Oracle:
    """Watches a solver's iterates: the best PSNR [N] against the truth, in dB, and the seconds spent on that.

    Each iterate is taken as it would be returned, after the operator's ``consistent`` step.
    """

    def __init__(self, truth: Tensor, operator: Operator, y: Tensor) -> None:
        self.truth, self.operator, self.y = truth, operator, y
        self.stopwatch = Stopwatch(truth.device)
        self.best = torch.full((len(truth),), -torch.inf, device=truth.device)

    def __call__(self, round_number: int, step: int, x: Tensor) -> None:
        """Look at one iterate."""
        with self.stopwatch.running():
            self.best = torch.fmax(self.best, psnr(self.operator.consistent(x, self.y), self.truth))


class Runner:
    """Computes the rows of a study that are not yet in its folder.

    Args:
        study: What to do.
        folder: The run folder: ``rows.jsonl``, ``grid-*.png``, and ``pictures/``, the first reconstructions.
        linear_prior: Called once, when a row of the linear prior is missing.
        batch: Pictures at a time, see :class:`rtil.evaluation.batches.Batches`.
    """

    def __init__(
        self, study: Study, folder: Path, linear_prior: Callable[[], LinearPrior], batch: int | None = None
    ) -> None:
        self.study, self.folder = study, folder
        self.linear_prior = linear_prior
        self.prior: LinearPrior | None = None
        self.device = next(iter(study.checkpoints.values())).generator.device
        self.batches = Batches(batch, study.resolution, self.device)
        self.truth = (study.pictures.images.float() / 255).to(self.device)
        self.metrics = Metrics(study.lpips, self.device)
        self.file = RowFile(folder / "rows.jsonl")

    def run(self) -> list[Row]:
        """Compute what is missing; returns all rows of the folder's file."""
        work = self.study.work()
        missing = sum(key not in self.file.finished_keys() for item in work for key in item.keys)
        progress = Progress(missing)
        for place in self.study.places:
            operator = self.study.operator(place).to(self.device)
            for item in work:
                if item.place == place:
                    self._run(item, operator, progress)
        progress.close()
        return self.file.rows()

    def write_grids(self) -> list[Path]:
        """Write a grid for each place and method: truth, measurement, each checkpoint, baselines, linear prior.

        Variants are beside each other: a grid for each place and checkpoint.
        """
        work = self.study.work()
        shown = min(SHOWN, len(self.truth))
        truth = self.truth[:shown]
        written = []
        for place in self.study.places:
            operator = self.study.operator(place).to(self.device)
            y = operator(truth, self.study.pictures.keys[:shown])
            observed = {"truth": truth.cpu(), "measurement": show_measurement(y, operator).cpu()}
            here = [item for item in work if item.place == place]
            last = {item.method: self._saved(item, shown) for item in here if item.candidate is None}
            for name, series in _grids([item for item in here if item.candidate is not None]).items():
                path = self.folder / f"grid-{place.slug}-{name}.png"
                picture_grid(
                    observed | {label: self._saved(item, shown) for label, item in series.items()} | last, path
                )
                written.append(path)
        return written

    def _run(self, item: Work, operator: Operator, progress: "Progress") -> None:
        missing = [i for i, key in enumerate(item.keys) if key not in self.file.finished_keys()]
        if not missing:
            return
        invert = self._reference(item, operator) if item.candidate is None else self._solver(item, operator)

        def of_batch(indices: Sequence[int]) -> tuple[Tensor, Tensor, Results]:
            truth, ids = self.truth[indices], [self.study.pictures.keys[i] for i in indices]
            y = operator(truth, ids)
            return truth, y, invert(y, truth, ids)

        for indices, (truth, y, results) in self.batches.over(missing, of_batch):
            self._save(item, indices, results.x)  # before the rows, which say that all of this is done
            values = self.metrics(results.x, truth)
            error = measurement_error(operator, results.x, y).tolist()
            trained = {} if item.candidate is None else self.study.checkpoints[item.checkpoint].info
            rows = [
                Row(
                    **item.keys[index]._asdict(),
                    psnr=values["psnr"][n].item(),
                    ssim=values["ssim"][n].item(),
                    lpips=values["lpips"][n].item(),
                    seconds=results.seconds / len(indices),
                    status=results.status[n],
                    selection=item.selection,
                    psnr_oracle=results.oracle[n],
                    psnr_round=tuple(results.rounds[n]),
                    measurement_error=error[n],
                    kimg=float(trained.get("kimg", math.nan)),
                    arch=str(trained.get("arch", "")),
                    rtil=bool(trained.get("rtil")),
                    mixes_differently=item.mixes_differently,
                    converged=None if results.converged is None else results.converged[n],
                )
                for n, index in enumerate(indices)
            ]
            self.file.extend(rows)
            progress.advance(item, rows)

    def _solver(self, item: Work, operator: Operator) -> Invert:
        solver = self.study.solver(item)
        latent_space_of(solver.generator)  # its Gaussian fit is kept from here on, and is no part of any picture's time

        def invert(y: Tensor, truth: Tensor, ids: Sequence[str]) -> Results:
            oracle = Oracle(truth, operator, y)
            found = solver.invert(y, operator, ids, callback=oracle)
            rounds = torch.stack([psnr(x, truth) for x in found.rounds], 1)
            seconds = found.seconds - oracle.stopwatch.seconds
            # iterates may be seen in bfloat16 and restarts be averaged: what is returned counts as well
            best = torch.fmax(oracle.best, torch.fmax(rounds.amax(1), psnr(found.x, truth)))
            return Results(
                found.x, list(found.status), seconds, best.tolist(), rounds.tolist(), converged_of(found.latents)
            )

        return invert

    def _reference(self, item: Work, operator: Operator) -> Invert:
        reconstruct = self._reconstruction(item, operator)

        def invert(y: Tensor, truth: Tensor, ids: Sequence[str]) -> Results:
            started = time.perf_counter()
            x = operator.consistent(reconstruct(y).clamp(0, 1), y)
            wait_for(x.device)
            seconds = time.perf_counter() - started
            return Results(x, ["ok"] * len(x), seconds, [float("nan")] * len(x), [[] for _ in x])

        return invert

    def _reconstruction(self, item: Work, operator: Operator) -> Callable[[Tensor], Tensor]:
        """Return what the linear prior or a baseline makes of measurements."""
        if item.method != LINEAR:
            baseline = self.study.reconstructions[item.method]
            return lambda y: baseline(y, operator)
        if self.prior is None:
            self.prior = self.linear_prior()
        return self.prior.condition(operator)

    def _saved_path(self, item: Work, index: int) -> Path:
        return self.folder / PICTURES / item.slug / f"{index:02d}.png"

    def _save(self, item: Work, indices: Sequence[int], x: Tensor) -> None:
        for index, picture in zip(indices, x, strict=True):
            if index < SHOWN:
                with atomic_path(self._saved_path(item, index)) as temporary:
                    to_pillow(picture).save(temporary, format="PNG")

    def _saved(self, item: Work, shown: int) -> Tensor:
        paths = [self._saved_path(item, index) for index in range(shown)]
        return torch.stack([read_image(path.read_bytes(), str(path)).float() / 255 for path in paths])


class Progress:
    """A bar on a terminal, elsewhere a line for each batch.

    Args:
        total: Rows to compute.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.started = total, 0, time.perf_counter()
        self.bar = tqdm(total=total, unit="image") if sys.stderr.isatty() and total else None

    def advance(self, item: Work, rows: Sequence[Row]) -> None:
        """Tell of a finished batch."""
        self.done += len(rows)
        name = item.method if item.candidate is None else f"{item.method} {item.checkpoint}"
        text = f"{item.place.label}, {name}: {_mean([row.psnr for row in rows]):.2f} dB"
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


def _grids(items: Sequence[Work]) -> dict[str, dict[str, Work]]:
    """Return {end of the file's name: {label of a column: item}}."""
    variants = any(item.candidate is not None and item.candidate.series.name for item in items)
    found: dict[str, dict[str, Work]] = {}
    for item in items:
        name, label = (item.checkpoint, item.method) if variants else (item.method, item.checkpoint)
        several = len({other.selection for other in items if other.method == item.method}) > 1
        found.setdefault(f"{name}-{item.selection}" if several else name, {})[label] = item
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
