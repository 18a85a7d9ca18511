"""Checkpoints: everything a run needs to go on, on a CPU bit-exactly. Rolling, atomic, for this run only.

A checkpoint holds networks, moving average, both Adams, running means and the image count; no random state, as every
draw is keyed by the image count. A new file replaces nothing until it is complete on disk, and the one before it is
kept, so that a kill at any moment leaves a checkpoint to resume from.

A run has one course. Going on from an older checkpoint begins a new one: its first checkpoint, once complete on disk,
takes the place of all that have seen more images. Until then the old course is still there, and ``latest`` is its end.
"""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from rtil.errors import UserError
from rtil.files import atomic_path
from rtil.training.config import TrainingConfig

PATTERN = "checkpoint-*.ckpt"
SETTINGS = "rtil_settings"
"""Where a checkpoint has the settings of its run."""
KEPT = 2


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target and renames; reads without unpickling arbitrary objects."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint and sync it before it takes its name."""
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint; only tensors and plain values are accepted, whatever the caller asks for."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def checkpoint_path(run: Path, images_seen: int) -> Path:
    """Return the name of the checkpoint after ``images_seen`` images."""
    return run / PATTERN.replace("*", f"{images_seen:011d}")


def checkpoints(run: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    return sorted(run.glob(PATTERN))


def resume_point(run: Path, resume: str) -> Path | None:
    """Return the checkpoint to resume from; None for the latest of a run that was stopped before its first.

    Args:
        run: The run folder.
        resume: ``latest``, or the path of a checkpoint.

    Raises:
        UserError: If the one named is not there, or it cannot be read; the message names an older one if there is
            one.
    """
    found = checkpoints(run) if resume == "latest" else [Path(resume)]
    if not found:
        return None
    if not os.path.isfile(found[-1]):
        raise UserError(f"nothing to resume: there is no checkpoint {resume}")
    try:
        torch.load(found[-1], weights_only=True, map_location="meta", mmap=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        before = f"; an older one is {found[-2]}: give it with --resume" if len(found) > 1 else ""
        raise UserError(f"checkpoint {found[-1]} is corrupt or not ours{before}") from error
    return found[-1]


def read_checkpoint(path: Path, config: TrainingConfig) -> int:
    """Check that a checkpoint belongs to a run of these settings; return how many images it has seen.

    Raises:
        UserError: It is no checkpoint of a training, or one of other settings.
    """
    state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    try:
        theirs, images_seen = state[SETTINGS], int(state["state_dict"]["images_seen"])
    except (KeyError, TypeError) as error:
        raise UserError(f"checkpoint {path} is not one of a training of this version: give another") from error
    ours = config.to_json()
    for name in sorted((theirs.keys() | ours.keys()) - config.changeable):
        if theirs.get(name) != ours.get(name):
            difference = f"{name} {theirs.get(name)}, not {ours.get(name)}"
            raise UserError(f"checkpoint {path} is of a run with {difference}: give one of this run")
    return images_seen


def drop_others(newest: Path) -> None:
    """Delete the checkpoints that one just written replaces: the oldest, and those of a course that was left."""
    found = checkpoints(newest.parent)
    for path in set(found) - set([path for path in found if path <= newest][-KEPT:]):
        path.unlink()
