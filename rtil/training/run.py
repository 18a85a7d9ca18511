"""A training run from settings to snapshots: data, networks, Lightning's trainer, resume."""

import logging
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from rtil.data.batches import FacesDataModule
from rtil.devices import compute_dtype, pick_device, training_convolutions
from rtil.training.callbacks import Checkpoints, Curves, Log, Snapshots
from rtil.training.checkpoint import AtomicCheckpointIO, read_checkpoint, resume_point
from rtil.training.config import TrainingConfig
from rtil.training.grids import Grids
from rtil.training.pggan import PGGANTraining
from rtil.training.processes import is_first_process, trainer_options
from rtil.training.quality import QualityLog
from rtil.training.ranks import rows_of_rank
from rtil.training.stop import StopRequest
from rtil.training.stylegan2 import StyleGAN2Training

MODULES: Mapping[str, type[Any]] = {"stylegan2": StyleGAN2Training, "pggan": PGGANTraining}
"""The training steps by the name of their architecture."""


def train(config: TrainingConfig, run: Path, resume: str | None = None) -> None:
    """Train a prior into a run folder.

    Args:
        config: The settings.
        run: Folder for snapshots, checkpoints, grids and TensorBoard's files.
        resume: ``latest`` or a checkpoint's path to go on from; None starts anew. The first new checkpoint takes the
            place of all that have seen more images than it has.

    With several devices Lightning starts this script again for each, unless ``torchrun`` or SLURM has; the first
    process alone writes into the folder.

    Raises:
        UserError: If the data, the devices or the checkpoint cannot be used.
        LostProcessError: If another process of the training has ended or does not answer.
        KeyboardInterrupt: On Ctrl-C, after a checkpoint was written.
        TrainingDivergedError: If gradients stay non-finite, or weights are; the last good checkpoint is kept.
    """
    device = pick_device(config.device)
    options, module = trainer_options(config, device), MODULES[config.arch](config)
    rows = partial(rows_of_rank, groups=module.inseparable, accumulate=config.accumulate)
    data = FacesDataModule(config.data, config.resolution, config.batch_at, config.seed, config.mirror, rows)
    checkpoint = resume_point(run, resume) if resume else None
    if checkpoint is not None:
        data.images_seen = module.seen = read_checkpoint(checkpoint, config)
    if module.is_done:
        if is_first_process(config, device):
            print(f"{run} has already seen {module.seen / 1000:g} of {config.kimg:g} kimg: nothing to do")
        return
    quality = [QualityLog(config.quality_kimg, data.dataset)] if config.quality_kimg else []
    _quiet_lightning()
    stop = StopRequest()
    trainer = pl.Trainer(
        **options,
        max_epochs=-1,
        default_root_dir=run,
        logger=Curves(run),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            Log(config.log_kimg),
            Grids(config.grid_kimg),
            Snapshots(config.snapshot_kimg),
            *quality,
            Checkpoints(config.checkpoint_kimg, stop),
        ],
    )
    # Lightning's handler of SIGTERM waits inside itself for all other processes: ours is heard between two steps
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    convolutions = training_convolutions(device, compute_dtype(config.precision, device))
    with stop.listening(), convolutions:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)


def _quiet_lightning() -> None:
    """Keep Lightning's advice off the terminal: hints on workers, epochs and loggers that do not apply here."""
    for name in ("lightning_fabric", "pytorch_lightning", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
