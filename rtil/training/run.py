"""A training run from settings to snapshots: data, networks, Lightning's trainer, resume."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from rtil.data.batches import FacesDataModule
from rtil.data.workers import worker_errors_in_one_line
from rtil.devices import compute_dtype, pick_device, training_convolutions
from rtil.errors import RunError, UserError
from rtil.training.callbacks import Checkpoints, Log, Snapshots
from rtil.training.card import Card
from rtil.training.checkpoint import (
    AtomicCheckpointIO,
    check_weights,
    read_checkpoint,
    resume_point,
    set_aside_damaged,
)
from rtil.training.config import TrainingConfig
from rtil.training.grids import Grids
from rtil.training.inversion_log import InversionLog
from rtil.training.loggers import DEFAULT_LOGGERS, make_loggers
from rtil.training.memory import running_out_in_one_line
from rtil.training.pggan import PGGANTraining
from rtil.training.processes import is_first_process, trainer_options
from rtil.training.progress import Pace, bars
from rtil.training.quality import QualityLog
from rtil.training.ranks import rows_of_rank
from rtil.training.stop import StopRequest
from rtil.training.stylegan2 import StyleGAN2Training
from rtil.training.trainer_options import TrainerOptions, trainer_arguments

MODULES: Mapping[str, type[Any]] = {"stylegan2": StyleGAN2Training, "pggan": PGGANTraining}
"""The training steps by the name of their architecture."""


@worker_errors_in_one_line()
def train(
    config: TrainingConfig,
    run: Path,
    resume: str | None = None,
    *,
    loggers: Sequence[str | Logger] = DEFAULT_LOGGERS,
    callbacks: Sequence[pl.Callback] = (),
    extra: TrainerOptions = TrainerOptions(),  # noqa: B008  frozen
) -> bool:
    """Train a prior into a run folder.

    Args:
        config: The settings.
        run: Folder for snapshots, checkpoints, grids and the loggers' files.
        resume: ``latest`` or a checkpoint's path to go on from; None starts anew. The first new checkpoint takes the
            place of all that have seen more images than it has.
        loggers: Names of :data:`rtil.training.loggers.NAMES`, or loggers of Lightning.
        callbacks: Of Lightning; they act before a checkpoint is written.
        extra: What Lightning's Trainer gets besides.

    Returns:
        Whether all images have been seen; a callback or a limit of time may have stopped before.

    With several devices Lightning starts this script again for each, unless ``torchrun`` or SLURM has; the first
    process alone writes into the folder.

    Raises:
        UserError: If the data, the devices, the checkpoint or a logger cannot be used.
        KeyboardInterrupt: On Ctrl-C, after the step it fell into and a checkpoint; at once before the first step.
        LostProcessError: If another process of the training has ended or does not answer.
        RunError: Disk or memory is full, or a process that reads pictures was killed; the last checkpoint is kept.
        TrainingDivergedError: If gradients stay non-finite, or weights are; the last good checkpoint is kept.
    """
    device = pick_device(config.device)
    options, module = trainer_options(config, device), MODULES[config.arch](config)
    rows = partial(rows_of_rank, groups=module.inseparable, accumulate=config.accumulate)
    order = (config.batch_at, config.seed, config.mirror)
    data = FacesDataModule(config.data, config.resolution, *order, config.workers, rows)
    checkpoint = resume_point(run, resume) if resume else None
    if checkpoint is not None:
        data.images_seen = module.seen = check_checkpoint(checkpoint, config)
        if resume == "latest":
            set_aside_damaged(run, checkpoint)
    if module.is_done:
        if is_first_process(config, device):
            print(f"{run} has already seen {module.seen / 1000:g} of {config.kimg:g} kimg: nothing to do")
        return True
    stop, pace = StopRequest(), Pace()
    measures: list[pl.Callback] = []
    if config.quality_kimg:
        measures.append(QualityLog(config.quality_kimg, data.dataset, stop))
    if config.study_kimg:
        measures.append(InversionLog(config.study_kimg, stop))
    _quiet_lightning()
    trainer = pl.Trainer(
        **options,
        max_epochs=-1,
        limit_val_batches=0,
        default_root_dir=run,
        logger=make_loggers(loggers, run, module.seen),
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            pace,
            Card(),
            Log(config.log_kimg, pace),
            Grids(config.grid_kimg),
            Snapshots(config.snapshot_kimg, stop),
            *measures,
            *callbacks,
            *bars(pace, callbacks, extra.enable_progress_bar),
            Checkpoints(config.checkpoint_kimg, stop),
        ],
        **trainer_arguments(extra, run, callbacks),
    )
    # Lightning's handler of SIGTERM waits inside itself for all other processes: ours is heard between two steps
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    convolutions = training_convolutions(device, compute_dtype(config.precision, device))
    memory = running_out_in_one_line(config, device, run)
    with stop.listening(), convolutions, memory:
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if checkpoint is None or module.step_images or isinstance(error, UserError):
                raise
            what = f"checkpoint {checkpoint} cannot be gone on from ({type(error).__name__}: {error})"
            raise RunError(f"{what}: give an older one with --resume") from error
    return bool(module.is_done)


def check_checkpoint(path: Path, config: TrainingConfig) -> int:
    """Check that a checkpoint is of these settings, and its weights of their networks; return images seen.

    Raises:
        UserError: It is not.
    """
    images_seen = read_checkpoint(path, config)
    with torch.device("meta"):
        module = MODULES[config.arch](config)
    check_weights(path, module, (module.G, module.D))
    return images_seen


def _quiet_lightning() -> None:
    """Keep Lightning's advice off the terminal: hints on workers, epochs and loggers that do not apply here."""
    for name in ("lightning_fabric", "pytorch_lightning", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
