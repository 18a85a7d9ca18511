"""What happens beside the steps, every so many images each: log, snapshots, checkpoints; grids are in their own file.

Lightning counts ``global_step``, every optimiser's step, of which a step of ours has two to four; and batches, whose
size changes while a PGGAN grows. Neither is the time of a training here, so its own intervals serve nothing.
"""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, cast

import pytorch_lightning as pl

from rtil.branches import MixtureBranches
from rtil.devices import peak_memory_mb
from rtil.snapshot import save_snapshot
from rtil.training.checkpoint import checkpoint_path, drop_others
from rtil.training.module import GANTraining
from rtil.training.progress import Pace, tell
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
        self.acted_at = -1  # images seen

    @abstractmethod
    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Do what is due."""

    def is_due(self, module: GANTraining) -> bool:
        """Whether the step that has just ended reached another multiple."""
        return module.seen // self.every_images > (module.seen - module.step_images) // self.every_images

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Act if it is time to; nothing is told or kept of a training that has diverged."""
        if pl_module.is_done or self.is_due(pl_module):
            self.act_on_sound(trainer, pl_module)

    def act_on_sound(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Act unless the training has diverged."""
        module.raise_if_diverged()
        self.acted_at = module.seen
        if trainer.is_global_zero or self.of_all:
            self.act(trainer, module)


class Log(EveryImages):
    """Has the module log what its steps tell, with speed and memory; shows it as a line, or behind a bar.

    Args:
        every_kimg: Thousands of images from one time to the next.
        pace: Knows the time left.
    """

    of_all = True

    def __init__(self, every_kimg: float, pace: Pace) -> None:
        super().__init__(every_kimg)
        self.pace = pace

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start to measure time, everything being prepared."""
        self.last_seen, self.last_time = pl_module.seen, time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *step: Any) -> None:
        """Let Lightning log after the steps at which this acts, and only there: it would count batches."""
        cast(Any, trainer).log_every_n_steps = 0
        super().on_train_batch_end(trainer, pl_module, *step)

    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Log what happened since the last time."""
        cast(Any, trainer).log_every_n_steps = 1
        now = time.perf_counter()
        sec_per_kimg = (now - self.last_time) / (module.seen - self.last_seen) * 1000
        self.last_seen, self.last_time = module.seen, now
        memory_mb = peak_memory_mb(module.device)
        module.log_dict(
            {
                "speed/sec_per_kimg": sec_per_kimg,
                "speed/images_per_sec": 1000 / sec_per_kimg,
                "memory/peak_mb": memory_mb,
            }
        )
        stats = {name: float(value) for name, value in module.scalars().items()}
        losses = (
            f"G {stats['loss/generator']:.2f}  D {stats['loss/discriminator']:.2f}  "
            f"real {stats['scores/real']:+.2f}  fake {stats['scores/fake']:+.2f}"
        )
        left = f"{self.pace.bound(module)}{self.pace.seconds_left(module) / 60:.1f}"
        self.pace.is_told = True
        line = (
            f"kimg {module.seen / 1000:8.1f}  {sec_per_kimg:6.2f} s/kimg  {1000 / sec_per_kimg:6.1f} images/s  "
            f"left {left:>5s} min  memory {memory_mb:.0f} MB  {losses}"
        )
        tell(trainer, line, losses)


class Snapshots(EveryImages):
    """Writes the moving average and how it was trained: ``snapshot-KIMG.safetensors`` (:mod:`rtil.snapshot`).

    Args:
        every_kimg: Thousands of images from one snapshot to the next.
        stop: After which there is none: a training that is interrupted goes on.
    """

    def __init__(self, every_kimg: float, stop: StopRequest) -> None:
        super().__init__(every_kimg)
        self.stop = stop

    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Write a snapshot."""
        config, dataset = module.config, cast(Any, trainer).datamodule.dataset
        info = config.to_json() | {"kimg": module.seen / 1000, "kimg_total": config.kimg, "dataset": dataset.name}
        if isinstance(module.branches, MixtureBranches):
            info["mixture_side"] = module.branches.side
        name = f"snapshot-{module.seen // 1000:06d}.safetensors"
        save_snapshot(Path(trainer.default_root_dir) / name, module.G_ema, info)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write one of what a user's callback, or a limit of time, has ended."""
        if not self.stop and self.acted_at != pl_module.seen:
            self.act_on_sound(trainer, pl_module)


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

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """From now on, a step that has begun is kept."""
        self.stop.finish_steps()

    def is_due(self, module: GANTraining) -> bool:
        """Whether it is time to, or somebody asked any of the processes to stop."""
        self.asked = module.ranks.largest(self.stop.number or 0)
        return bool(self.asked) or super().is_due(module)

    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Write a checkpoint."""
        path = checkpoint_path(Path(trainer.default_root_dir), module.seen)
        trainer.save_checkpoint(path)  # all take part in it, the first one writes
        if trainer.is_global_zero:
            drop_others(path)
        self.asked = self.asked or module.ranks.largest(self.stop.number or 0)  # or meanwhile
        if self.asked:
            self.stop.number = self.asked
        trainer.should_stop = trainer.should_stop or bool(self.asked) or module.is_done

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keep what a user's callback, or a limit of time, has ended."""
        if self.acted_at != pl_module.seen:
            self.act_on_sound(trainer, pl_module)
