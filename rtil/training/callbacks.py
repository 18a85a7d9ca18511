"""What happens beside the steps: logs, grids, snapshots, checkpoints and the end, all on the clock of images seen."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rtil.branches import Branches, MixtureBranches
from rtil.data.base import ImageDataset
from rtil.files import atomic_path
from rtil.generators import LayeredGenerator
from rtil.ranges import to_uint8, to_unit
from rtil.seeds import generator as seeded
from rtil.snapshot import save_snapshot
from rtil.training.checkpoint import checkpoint_path, drop_old
from rtil.training.module import GANTraining
from rtil.training.stop import StopRequest

GRID_COLUMNS = 8


def memory_mb(device: torch.device) -> float:
    """Return the peak memory so far in MB: of the GPU in use, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


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
    return tile(to_unit(torch.stack(rows)).clamp(0, 1).cpu())


def tile(images: Tensor) -> Tensor:
    """Lay out images [rows, columns, 3, R, R] as one picture [3, rows R, columns R]."""
    rows, columns, C, H, W = images.shape
    return images.permute(2, 0, 3, 1, 4).reshape(C, rows * H, columns * W)


def save_png(picture: Tensor, path: Path) -> None:
    """Write a picture [3, H, W] in [0, 1] as PNG, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(to_uint8(picture).permute(1, 2, 0).numpy()).save(temporary, format="PNG")


class Clock(pl.Callback):
    """Calls what is due every so many images, at the first step and at the end, and stops training.

    Args:
        run: The run folder.
        dataset: The training pictures, for the grid of reals.
        stop: Ends training early, after a checkpoint.
    """

    def __init__(self, run: Path, dataset: ImageDataset, stop: StopRequest) -> None:
        self.run, self.dataset, self.stop = run, dataset, stop
        self.bar: Any = None
        self.tensorboard: SummaryWriter | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Open TensorBoard, the progress bar and the clock; write the reals."""
        module: GANTraining[Any] = pl_module
        self.tensorboard = tensorboard = SummaryWriter(str(self.run))
        self.last_seen, self.last_time = module.seen, time.perf_counter()
        if sys.stderr.isatty():
            self.bar = tqdm(
                total=module.config.total_images / 1000, initial=module.seen / 1000, unit="kimg", unit_scale=False
            )
        if module.seen == 0:
            reals = self.dataset.load(range(min(GRID_COLUMNS * 4, len(self.dataset)) // GRID_COLUMNS * GRID_COLUMNS))
            if len(reals):
                picture = tile(reals.unflatten(0, (-1, GRID_COLUMNS)).float() / 255)
                save_png(picture, self.run / "reals.png")
                tensorboard.add_image("reals", picture, 0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        """Do what is due."""
        module: GANTraining[Any] = pl_module
        config, done = module.config, module.seen >= module.config.total_images
        checkpoint = self._due(module, config.checkpoint_kimg) or done
        log = self._due(module, config.log_kimg) or done
        if log or checkpoint:
            module.check_progress()
        if log:
            self._log(module)
        if self._due(module, config.grid_kimg) or done:
            self._grid(module)
        if self._due(module, config.snapshot_kimg) or done:
            self._snapshot(module)
        if checkpoint or self.stop:
            trainer.save_checkpoint(checkpoint_path(self.run, module.seen))
            drop_old(self.run)
        if done or self.stop:
            trainer.should_stop = True

    @staticmethod
    def _due(module: GANTraining[Any], every_kimg: float) -> bool:
        every = every_kimg * 1000
        return module.seen // every > (module.seen - module.step_images) // every

    def _log(self, module: GANTraining[Any]) -> None:
        now = time.perf_counter()
        images = module.seen - self.last_seen
        if images == 0:
            return
        sec_per_kimg = (now - self.last_time) / images * 1000
        self.last_seen, self.last_time = module.seen, now
        stats = module.scalars()
        stats |= {"speed/sec_per_kimg": sec_per_kimg, "speed/images_per_sec": 1000 / sec_per_kimg}
        stats["memory/peak_mb"] = memory_mb(module.device)
        if self.tensorboard is not None:
            for name, value in stats.items():
                self.tensorboard.add_scalar(name, value, module.seen)
        left_kimg = (module.config.total_images - module.seen) / 1000
        if self.bar is not None:
            self.bar.update(module.seen / 1000 - self.bar.n)
            self.bar.set_postfix_str(f"{sec_per_kimg:.2f} s/kimg")
            return
        print(
            f"kimg {module.seen / 1000:8.1f}  {sec_per_kimg:6.2f} s/kimg  {1000 / sec_per_kimg:6.1f} images/s  "
            f"left {left_kimg * sec_per_kimg / 60:5.1f} min  memory {stats['memory/peak_mb']:.0f} MB  "
            f"G {stats.get('loss/generator', 0):.2f}  D {stats.get('loss/discriminator', 0):.2f}  "
            f"real {stats.get('scores/real', 0):+.2f}  fake {stats.get('scores/fake', 0):+.2f}",
            flush=True,
        )

    def _grid(self, module: GANTraining[Any]) -> None:
        picture = branch_grid(module.G_ema, module.branches, module.config.seed, GRID_COLUMNS)
        save_png(picture, self.run / f"fakes-{module.seen // 1000:06d}.png")
        if self.tensorboard is not None:
            self.tensorboard.add_image("fakes, one row per branch", picture, module.seen)
            self.tensorboard.flush()

    def _snapshot(self, module: GANTraining[Any]) -> None:
        config = module.config
        info = config.to_json() | {"kimg": module.seen / 1000, "kimg_total": config.kimg, "dataset": self.dataset.name}
        if isinstance(module.branches, MixtureBranches):
            info["mixture_side"] = module.branches.side
        save_snapshot(self.run / f"snapshot-{module.seen // 1000:06d}.safetensors", module.G_ema, info)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close the bar and TensorBoard."""
        self._close()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Close the bar and TensorBoard."""
        self._close()

    def _close(self) -> None:
        if self.tensorboard is not None:
            self.tensorboard.close()
        if self.bar is not None:
            self.bar.close()
