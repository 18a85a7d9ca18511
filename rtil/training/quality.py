"""The quality of the moving average while it trains: ``quality.csv`` in the run folder, and the loggers.

Every branch's distances from the training pictures (:mod:`rtil.quality`), and the discriminator's mean score on
training pictures beside that on held-out ones: when the first leaves the second behind, D knows its pictures by heart.
"""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from rtil.data import open_dataset
from rtil.data.base import ImageDataset
from rtil.data.compared import MOST_SAMPLES, REFERENCE_PICTURES
from rtil.errors import Notice
from rtil.files import atomic_path
from rtil.quality.distances import Distances
from rtil.quality.features import PooledFeatures
from rtil.quality.measure import Quality, QualityLine, values
from rtil.ranges import uint8_to_signed
from rtil.training.callbacks import EveryImages
from rtil.training.loggers import log_values
from rtil.training.module import GANTraining
from rtil.training.progress import say
from rtil.training.stop import StopRequest

FILE = "quality.csv"
COLUMNS = ("kimg", "of", *Distances._fields, "score_train", "score_heldout")
SCORED_PICTURES = 512
SCORED_AT_A_TIME = 32


class QualityLog(EveryImages):
    """Measures quality every so many images.

    Args:
        every_kimg: Thousands of images from one measurement to the next.
        ds: The training set.
        stop: Ends a measurement, which is then left out.

    Raises:
        UserError: The weights of the feature network are not on this machine, or the set is too small.
    """

    def __init__(self, every_kimg: float, ds: ImageDataset, stop: StopRequest) -> None:
        super().__init__(every_kimg)
        self.stop = stop
        self.ds, self.network = ds, PooledFeatures("alex")
        self.quality: Quality | None = None
        self.floor: QualityLine | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compute the features of real pictures, once."""
        if not trainer.is_global_zero:
            return
        count = min(MOST_SAMPLES, len(self.ds) // 2)
        say(trainer, f"first: features of up to {count + REFERENCE_PICTURES} real pictures, for the quality")
        self.quality = Quality(self.ds, self.network, count, pl_module.config.seed, pl_module.device)
        self.floor = self.quality.of_reals()
        heldout = open_dataset(pl_module.config.data, self.ds.resolution, "validation")
        self.heldout = heldout.load(range(min(SCORED_PICTURES, len(heldout))))

    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Measure, unless somebody asks to stop."""
        if not self.stop:
            with self.stop.leaving_out():
                self._measure(trainer, module)

    def _measure(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Measure, log and warn."""
        quality = cast(Quality, self.quality)
        lines = quality.of_generator(module.G_ema, module.branches)
        scores = [mean_score(module, images) for images in (quality.others[:SCORED_PICTURES], self.heldout)]
        reals = cast(QualityLine, self.floor)
        kimg = module.seen / 1000
        scored = {"scores/train": scores[0], "scores/heldout": scores[1]}
        log_values(trainer, values([*lines, reals]) | scored, module.seen)
        rows = [[f"{kimg:.3f}", line.of, *line.distances, *scores] for line in [*lines, reals]]
        append_rows(Path(trainer.default_root_dir) / FILE, COLUMNS, kimg, rows)
        told = ", ".join(f"{line.distances.frechet:.1f}" for line in lines)
        say(
            trainer,
            f"quality at {kimg:.1f} kimg: Frechet distance {told} (branch by branch; "
            f"reals {reals.distances.frechet:.1f}), "
            f"D on training pictures {scores[0]:+.2f}, on held-out ones {scores[1]:+.2f}",
        )
        for line in lines:
            if line.is_collapsed:
                spread = f"{line.of} vary {line.distances.spread:.0%} as much as the reals"
                warnings.warn(f"samples of {spread}: they may collapse; a higher r1_gamma helps", Notice, stacklevel=2)


@torch.no_grad()
def mean_score(module: GANTraining, images: Tensor) -> float:
    """Return D's mean score of pictures uint8 [N, 3, R, R], shown as in the step that comes next."""
    D = cast(Any, module.D)
    chunks = images.to(module.device).split(SCORED_AT_A_TIME)
    full = [chunk for chunk in chunks if len(chunk) == SCORED_AT_A_TIME] or chunks
    return float(torch.cat([D(module.shown(uint8_to_signed(chunk))) for chunk in full]).mean())


def append_rows(path: Path, columns: Sequence[str], kimg: float, rows: list[list[Any]]) -> None:
    """Write rows behind those of the file that are of fewer kimg: a resumed run has made the others anew."""
    before: list[list[str]] = []
    if path.is_file():
        with path.open(newline="") as file:
            before = [row for row in list(csv.reader(file))[1:] if float(row[0]) < kimg]
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *before, *rows])
