"""Grids of pictures: the reals once, then fixed latents of the moving average, one row per branch."""

from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from rtil.branches import Branches
from rtil.data.base import ImageDataset
from rtil.generators import LayeredGenerator
from rtil.pictures import image_grid, save_png
from rtil.ranges import to_unit
from rtil.seeds import generator as seeded
from rtil.training.callbacks import EveryImages
from rtil.training.loggers import show_picture
from rtil.training.module import GANTraining

COLUMNS = 8
ROWS_OF_REALS = 4


class Grids(EveryImages):
    """Writes ``reals.png`` and ``fakes-KIMG.png``, and shows them in TensorBoard or W&B."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the reals."""
        dataset: ImageDataset = cast(Any, trainer).datamodule.dataset
        count = min(COLUMNS * ROWS_OF_REALS, len(dataset))
        count -= count % COLUMNS if count > COLUMNS else 0  # full rows, or the one that there is
        if count and pl_module.seen == 0 and trainer.is_global_zero:
            reals = dataset.load(range(count)).float() / 255
            self._write(trainer, image_grid(reals, COLUMNS), "reals.png", "reals", 0)

    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Write a grid."""
        picture = branch_grid(module.G_ema, module.branches, module.config.seed, COLUMNS)
        self._write(trainer, picture, f"fakes-{module.seen // 1000:06d}.png", "fakes, one row per branch", module.seen)

    def _write(self, trainer: pl.Trainer, picture: Tensor, file: str, title: str, seen: int) -> None:
        save_png(picture, Path(trainer.default_root_dir) / file)
        show_picture(trainer, title, picture, seen)


@torch.no_grad()
def branch_grid(generator: LayeredGenerator, branches: Branches, seed: int, columns: int) -> Tensor:
    """Return fixed latents as a picture [3, B R, columns R] in [0, 1], one row per branch, same first z in a column."""
    rng = seeded(seed, "grid")
    most = int(branches.codes_of(torch.arange(branches.count)).max())
    ws = generator.mapping(generator.draw_z(most * columns, rng)).unflatten(0, (most, columns))
    noise = generator.draw_noise(columns, rng)
    rows = []
    for j in range(branches.count):
        branch = torch.full((columns,), j)
        of_pictures = ws[: int(branches.codes_of(branch)[0])].transpose(0, 1).flatten(0, 1)
        rows.append(branches.generate(generator, of_pictures, noise, branch, seeded(seed, "grid/injection", j)))
    return image_grid(to_unit(torch.cat(rows)).clamp(0, 1).cpu(), columns)
