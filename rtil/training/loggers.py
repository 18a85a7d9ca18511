"""Where a training's numbers and pictures go: TensorBoard's files, a CSV table, W&B, or any other logger of Lightning.

The axis of all is images seen. A run folder has one course: what a resumed run goes over again, TensorBoard hides and
the table leaves out. ``hparams.yaml``, which Lightning writes beside both, is left out too: settings.json says it all.
"""

import csv
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from rtil.errors import Notice, UserError, unknown
from rtil.training.config import BESIDE
from rtil.training.event_file import LastingTensorBoard

TABLE = "metrics.csv"
NAMES = ("tensorboard", "csv", "wandb")
DEFAULT_LOGGERS = ("tensorboard",)
COMPARED = ("loss/generator", "loss/discriminator", "speed/sec_per_kimg")
COMPARED_QUALITY = ("quality/frechet/branch 0", "quality/frechet/reals")
"""Curves whose ends stand beside the settings of a run in TensorBoard's table of runs."""


def check_logger(given: str | Logger) -> str | Logger:
    """Return a logger's name, or a logger, as it is.

    Raises:
        UserError: There is no logger of that name, or its package is not installed.
    """
    if isinstance(given, str) and given not in NAMES:
        raise unknown("logger", given, NAMES)
    if given == "wandb" and find_spec("wandb") is None:
        raise UserError("logger wandb needs the package wandb: pip install wandb, or use tensorboard or csv")
    return given


def make_loggers(given: Sequence[str | Logger], run: Path, seen: int) -> list[Logger]:
    """Return the loggers of a run.

    Args:
        given: Names among ``NAMES``, or loggers.
        run: The run folder, where those that have names write; on W&B it also names the run.
        seen: Images that a run which goes on has seen; 0 for a new one.

    Raises:
        UserError: As :func:`check_logger`.
    """
    makers = {
        "tensorboard": lambda: Curves(run, seen),
        "csv": lambda: Table(run, seen),
        "wandb": lambda: WandbLogger(name=run.name, save_dir=run, project="rtil"),
    }
    return [makers[one]() if isinstance(one, str) else one for one in map(check_logger, given)]


class Curves(LastingTensorBoard):
    """TensorBoard's files in the run folder itself."""

    def __init__(self, run: Path, seen: int) -> None:
        super().__init__(run, name=None, version="", purge_step=seen + 1 if seen else None)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Write the settings, beside which TensorBoard shows the ends of some curves; no value is made up for these."""
        shown = COMPARED + (COMPARED_QUALITY if params.get("quality_kimg") else ())
        beside = [f"{what}_kimg" for what in BESIDE]
        plain = {
            name: value if type(value) in (int, float) else str(value)
            for name, value in params.items()
            if name not in beside
        }
        for summary in hparams(plain, dict.fromkeys(shown, 0.0)):
            self.experiment._get_file_writer().add_summary(summary)

    @rank_zero_only
    def save(self) -> None:
        """Write what is still in memory."""
        self.experiment.flush()


class Table(CSVLogger):
    """``metrics.csv`` in the run folder, one line each time that something is logged; ``step`` is images seen."""

    def __init__(self, run: Path, seen: int) -> None:
        super().__init__(run, name="", version="")
        self.seen, self.is_told = seen, False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What writes the table, the rows that are there already before its own."""
        if self._experiment is None:
            kept = list(self._rows_before())
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Experiment logs directory .* is not empty")
                writer = super().experiment
            writer.metrics = kept
            writer.save()
        return super().experiment

    def _rows_before(self) -> Iterator[dict[str, Any]]:
        path = Path(self.save_dir) / TABLE
        if path.is_file():
            with path.open(newline="") as file:
                yield from (row for row in csv.DictReader(file) if int(row["step"]) <= self.seen)

    def log_hyperparams(self, params: Any = None) -> None:
        """Write nothing."""

    @rank_zero_only
    def save(self) -> None:
        """Write what is still in memory; where there is no room for it, later."""
        try:
            super().save()
        except OSError as error:
            if not self.is_told:
                reason = error.strerror or error
                warnings.warn(f"{TABLE} cannot be written ({reason}); the training goes on", Notice, stacklevel=2)
            self.is_told = True


def log_values(trainer: pl.Trainer, values: Mapping[str, float], seen: int) -> None:
    """Tell all loggers something that is not part of every step."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), seen)
        logger.save()


def show_picture(trainer: pl.Trainer, title: str, picture: Tensor, seen: int) -> None:
    """Show a picture [3, H, W] in [0, 1] in those loggers that have pictures."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(title, picture, seen)
            logger.experiment.flush()
        elif isinstance(logger, WandbLogger):
            logger.log_image(title, [picture], step=seen)


def show_text(trainer: pl.Trainer, title: str, markdown: str, seen: int) -> None:
    """Show text in TensorBoard."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(title, markdown, seen)
