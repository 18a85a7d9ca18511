"""How far a training is, how fast, and how long it still takes: a line early on, and a bar where there is a terminal.

Lightning's bar counts batches up to the end of an epoch, and an epoch of ours has no end: this one counts images up to
the end of the training. Neither waits for a device: losses are those of the last line of the log.
"""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from rtil.training.module import GANTraining

LEAST_SECONDS, LEAST_STEPS = 5.0, 3
"""Time and steps behind the first one after which the speed is known well enough to tell."""
SECONDS_BETWEEN_LOOKS = 0.5


class Pace(pl.Callback):
    """Measures images per second, pauses for grids and checkpoints included; a checkpoint remembers them.

    It begins behind the first step, which prepares much, and anew wherever steps get another length (a growing PGGAN).

    Attributes:
        images_per_sec: None before the first step.
        is_told: Whether it has been told how long the training takes.
    """

    def __init__(self) -> None:
        self.images_per_sec: float | None = None
        self.is_told = False
        self._alike_until = self._first = self._steps = 0
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the speed."""
        return {"images_per_sec": self.images_per_sec}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the speed of a run that goes on."""
        self.images_per_sec = state_dict["images_per_sec"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Tell how long a run that goes on will take, as it went before."""
        self._started = time.monotonic()
        if self.images_per_sec is not None:
            say(trainer, f"goes on at {pl_module.seen / 1000:g} kimg: {self.estimate(pl_module)}, as before")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Measure; once, as soon as it is known, tell how long the training takes."""
        now = time.monotonic()
        if self._alike_until != pl_module.alike_until:
            self._alike_until = pl_module.alike_until
            self.images_per_sec = self.images_per_sec or pl_module.step_images / (now - self._started)
            self._first, self._steps, self._started = pl_module.seen, 0, now
            return
        self._steps += 1
        self.images_per_sec = (pl_module.seen - self._first) / max(now - self._started, 1e-9)
        if not self.is_told and self._steps >= LEAST_STEPS and now - self._started >= LEAST_SECONDS:
            self.is_told = True
            say(trainer, self.estimate(pl_module))

    def seconds_left(self, module: GANTraining) -> float:
        """Return how long the rest takes if its images take as long as those before."""
        return (module.total_images - module.seen) / (self.images_per_sec or math.nan)

    def bound(self, module: GANTraining) -> str:
        """Return what to write before that: of a growing PGGAN, whose later images take longer, it is a lower bound."""
        return ">" if module.alike_until < module.total_images else ""

    def estimate(self, module: GANTraining) -> str:
        """Return that in words."""
        bound = "more than" if self.bound(module) else "about"
        return f"{bound} {duration(self.seconds_left(module))} to go at {self.images_per_sec:.1f} images/s"


class _Bar(Tqdm):
    """A bar of images that shows kimg, and what its owner says of speed and time left."""

    told = ""

    @property
    def format_dict(self) -> dict[str, Any]:
        return dict(super().format_dict) | {
            "kimg": f"{self.n / 1000:.1f}/{(self.total or 0) / 1000:g} kimg",
            "told": self.told,
        }


class ImageBar(TQDMProgressBar):
    """Lightning's bar, over the images of the whole training, on stderr."""

    BAR_FORMAT = "{percentage:3.0f}%|{bar}| {kimg}{told}{postfix}"

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Show it."""
        self.train_progress_bar = _Bar(
            total=pl_module.total_images,
            initial=pl_module.seen,
            mininterval=SECONDS_BETWEEN_LOOKS,
            disable=self.is_disabled,
            dynamic_ncols=True,
            file=sys.stderr,
            bar_format=self.BAR_FORMAT,
        )

    def on_train_epoch_start(self, *_: Any) -> None:
        """Leave the bar as it is."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Move on."""
        bar: Any = self.train_progress_bar
        left = duration(self.pace.seconds_left(pl_module))
        bar.told = f", {self.pace.images_per_sec:.1f} images/s, {self.pace.bound(pl_module)}{left} left"
        bar.update(pl_module.seen - bar.n)

    def on_train_epoch_end(self, *_: Any) -> None:
        """Leave the bar as it is."""

    def on_train_end(self, *_: Any) -> None:
        """Show where it ended, and leave it on the terminal."""
        self.train_progress_bar.refresh()
        self.train_progress_bar.close()

    def on_exception(self, *_: Any) -> None:
        """Leave the terminal in order."""
        if self._train_progress_bar is not None:
            self.train_progress_bar.close()

    def show(self, text: str) -> None:
        """Show text behind the numbers from the next look on."""
        self.train_progress_bar.set_postfix_str(text, refresh=False)

    def print(self, *words: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print a line above the bar."""
        self.train_progress_bar.write(sep.join(map(str, words)), file=sys.stderr, **kwargs)


def bars(pace: Pace, callbacks: Sequence[pl.Callback], is_wanted: bool) -> list[pl.Callback]:
    """Return the bar to add: none where there is no terminal, nor where a user brings one."""
    has_one = any(isinstance(callback, ProgressBar) for callback in callbacks)
    return [ImageBar(pace)] if is_wanted and not has_one and sys.stderr.isatty() else []


def say(trainer: pl.Trainer, line: str) -> None:
    """Print a line, of several processes in the first alone, and above a bar."""
    bar = _bar_of(trainer)
    if trainer.is_global_zero and bar is not None and sys.stdout.isatty():
        bar.print(line)
    elif trainer.is_global_zero:
        print(line, flush=True)


def tell(trainer: pl.Trainer, line: str, short: str) -> None:
    """Show how it goes: behind the bar in short, and as a line where standard output is no terminal with a bar."""
    bar = _bar_of(trainer)
    if bar is not None:
        bar.show(short)
    if trainer.is_global_zero and (bar is None or not sys.stdout.isatty()):
        print(line, flush=True)


def _bar_of(trainer: pl.Trainer) -> ImageBar | None:
    bar = trainer.progress_bar_callback
    return bar if isinstance(bar, ImageBar) and bar.is_enabled and bar._train_progress_bar is not None else None


def duration(seconds: float) -> str:
    """Return a length of time in two units at most.

    Example:
        >>> [duration(seconds) for seconds in (0, 59, 95, 3 * 3600 + 60, 200_000)]
        ['0 s', '59 s', '2 min', '3 h 1 min', '2 d 8 h']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
