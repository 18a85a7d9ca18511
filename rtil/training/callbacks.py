"""What happens beside the steps, every so many images each: log, snapshots, checkpoints; grids are in their own file.

Lightning counts ``global_step``, every optimiser's step, of which a step of ours has two to four; and batches, whose
size changes while a PGGAN grows. Neither is the time of a training here, so its own intervals serve nothing.
"""

import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, cast

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from tqdm import tqdm

from rtil.branches import MixtureBranches
from rtil.devices import peak_memory_mb
from rtil.snapshot import save_snapshot
from rtil.training.checkpoint import checkpoint_path, drop_others
from rtil.training.module import GANTraining
from rtil.training.stop import StopRequest


class EveryImages(pl.Callback, ABC):
    """Acts after each step that reaches another multiple of so many images, and after the last step.

    Args:
        every_kimg: Thousands of images from one time to the next.

    Attributes:
        of_all: Whether all processes act, not the first alone.
    """

    of_all: ClassVar[bool] = False

    def __init__(self, every_kimg: float) -> None:
        self.every_images = every_kimg * 1000

    @abstractmethod
    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Do what is due."""

    def is_due(self, module: GANTraining) -> bool:
        """Whether the step that has just ended reached another multiple."""
        return module.seen // self.every_images > (module.seen - module.step_images) // self.every_images

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Act if it is time to; nothing is told or kept of a training that has diverged."""
        if pl_module.is_done or self.is_due(pl_module):
            pl_module.raise_if_diverged()
            if trainer.is_global_zero or self.of_all:
                self.act(trainer, pl_module)


class Curves(TensorBoardLogger):
    """TensorBoard's files in the run folder itself; no ``hparams.yaml``, as the folder's settings.json says it all."""

    def __init__(self, run: Path) -> None:
        super().__init__(run, name=None, version="")

    def save(self) -> None:
        """Write what is still in memory."""
        self.experiment.flush()


class Log(EveryImages):
    """Tells losses, scores, speed and memory: to TensorBoard, and as a line or a progress bar."""

    of_all = True
    bar: Any = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start to measure time and, in a terminal, the bar."""
        self.last_seen, self.last_time = pl_module.seen, time.perf_counter()
        # Lightning's bar counts batches up to the end of an epoch, and an epoch of ours has no end: this counts images.
        total, initial = pl_module.total_images / 1000, pl_module.seen / 1000
        has_bar = trainer.is_global_zero and sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=initial, unit="kimg") if has_bar else None

    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Log what happened since the last time."""
        now = time.perf_counter()
        sec_per_kimg = (now - self.last_time) / (module.seen - self.last_seen) * 1000
        self.last_seen, self.last_time = module.seen, now
        stats = module.scalars()
        if not trainer.is_global_zero:
            return
        stats |= {"speed/sec_per_kimg": sec_per_kimg, "speed/images_per_sec": 1000 / sec_per_kimg}
        stats["memory/peak_mb"] = peak_memory_mb(module.device)
        cast(Any, trainer.logger).log_metrics(stats, module.seen)  # Lightning's self.log would count batches
        if self.bar is not None:
            self.bar.update(module.seen / 1000 - self.bar.n)
            self.bar.set_postfix_str(f"{sec_per_kimg:.2f} s/kimg")
            return
        left_kimg = (module.total_images - module.seen) / 1000
        print(
            f"kimg {module.seen / 1000:8.1f}  {sec_per_kimg:6.2f} s/kimg  {1000 / sec_per_kimg:6.1f} images/s  "
            f"left {left_kimg * sec_per_kimg / 60:5.1f} min  memory {stats['memory/peak_mb']:.0f} MB  "
            f"G {stats['loss/generator']:.2f}  D {stats['loss/discriminator']:.2f}  "
            f"real {stats['scores/real']:+.2f}  fake {stats['scores/fake']:+.2f}",
            flush=True,
        )

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Close the bar."""
        self.on_fit_end()

    def on_fit_end(self, *_: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


class Snapshots(EveryImages):
    """Writes the moving average and how it was trained: ``snapshot-KIMG.safetensors`` (:mod:`rtil.snapshot`)."""

    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Write a snapshot."""
        config, dataset = module.config, cast(Any, trainer).datamodule.dataset
        info = config.to_json() | {"kimg": module.seen / 1000, "kimg_total": config.kimg, "dataset": dataset.name}
        if isinstance(module.branches, MixtureBranches):
            info["mixture_side"] = module.branches.side
        name = f"snapshot-{module.seen // 1000:06d}.safetensors"
        save_snapshot(Path(trainer.default_root_dir) / name, module.G_ema, info)


class Checkpoints(EveryImages):
    """Writes ``checkpoint-IMAGES.ckpt``; behind it, stops the training at its end or when asked to.

    Lightning's ``ModelCheckpoint`` is due by ``global_step``, keeps what scores best, and takes the list of what it
    wrote from the checkpoint it goes on from; these roll by images seen, and the folder is the list.

    Args:
        every_kimg: Thousands of images from one checkpoint to the next.
        stop: Ends the training early, with a checkpoint.
    """

    of_all = True

    def __init__(self, every_kimg: float, stop: StopRequest) -> None:
        super().__init__(every_kimg)
        self.stop, self.asked = stop, 0

    def is_due(self, module: GANTraining) -> bool:
        """Whether it is time to, or somebody asked any of the processes to stop."""
        self.asked = module.ranks.largest(self.stop.signal_number or 0)
        return bool(self.asked) or super().is_due(module)

    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Write a checkpoint."""
        path = checkpoint_path(Path(trainer.default_root_dir), module.seen)
        trainer.save_checkpoint(path)  # all take part in it, the first one writes
        if trainer.is_global_zero:
            drop_others(path)
        if self.asked:
            self.stop.signal_number = self.asked
        trainer.should_stop = bool(self.asked) or module.is_done
