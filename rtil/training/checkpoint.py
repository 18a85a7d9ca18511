"""Checkpoints: everything a run needs to go on, on a CPU bit-exactly. Rolling, atomic, for this run only.

A checkpoint holds networks, moving average, both Adams, running means and the image count; no random state, as every
draw is keyed by the image count. A new file replaces nothing until it is complete on disk, and the one before it is
kept, so that a kill at any moment leaves a checkpoint to resume from.

A run has one course. Going on from an older checkpoint begins a new one: its first checkpoint, once complete on disk,
takes the place of all that have seen more images. Until then the old course is still there, and ``latest`` is its end.
"""

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import RawIOBase
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor, nn

from rtil.errors import Notice, RunError, UserError
from rtil.files import atomic_path
from rtil.interop.checkpoint_files import is_safetensors
from rtil.torch_files import read_torch
from rtil.training.config import TrainingConfig

PATTERN = "checkpoint-*.ckpt"
SET_ASIDE = ".damaged"
SETTINGS = "rtil_settings"
"""Where a checkpoint has the settings of its run."""
KEPT = 2
MOMENTS = ("exp_avg", "exp_avg_sq")


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target and renames; reads without unpickling arbitrary objects."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint and sync it before it takes its name; nothing that is not finite is written."""
        if bad := first_not_finite(_numbers_of(checkpoint)):
            raise RunError(f"{bad} is not finite: {path} was not written, and what is kept is sound; lower lr")
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint; only tensors and plain values are accepted, whatever the caller asks for."""
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class _Told:
    """A file that remembers why it could not be written."""

    def __init__(self, file: RawIOBase) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self.file.write(rest) or 0 :]
        except OSError as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def _numbers_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights and moments: what callbacks keep of themselves may be infinite."""
    return {name: value for name, value in checkpoint.items() if name != "callbacks"}


def first_not_finite(value: Any, place: str = "") -> str | None:
    """Return the dotted place of the first number or tensor that is not finite within nested containers, or None."""
    if isinstance(value, Tensor):
        return None if not value.is_floating_point() or bool(value.isfinite().all()) else place
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    items: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        items = iter(value.items())
    elif isinstance(value, list | tuple):
        items = iter(enumerate(value))
    return next((bad for name, inner in items if (bad := first_not_finite(inner, f"{place}.{name}".strip(".")))), None)


def checkpoint_path(run: Path, images_seen: int) -> Path:
    """Return the name of the checkpoint after ``images_seen`` images."""
    return run / PATTERN.replace("*", f"{images_seen:011d}")


def checkpoints(run: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    return sorted(run.glob(PATTERN))


def resume_point(run: Path, resume: str) -> Path | None:
    """Return the checkpoint to resume from; None for the latest of a run that was stopped before its first.

    Of ``latest`` it is the newest that is sound, with a notice of those that are not.

    Args:
        run: The run folder.
        resume: ``latest``, or the path of a checkpoint.

    Raises:
        UserError: The one named is not there or damaged, with an older one of the folder where there is one; or all of
            the run are damaged.
    """
    if resume != "latest":
        return _named(Path(resume))
    found = checkpoints(run)[::-1]
    if not found:
        return None
    damaged: list[str] = []
    for path in found:
        try:
            contents_of(path)
        except UserError as error:
            damaged.append(str(error))
            continue
        if damaged:
            warnings.warn(f"{'; '.join(damaged)}; going on from {path}", Notice, stacklevel=1)
        return path
    raise UserError(f"{'; '.join(damaged)}; no older one is left: start a new run with another --out")


def _named(path: Path) -> Path:
    if not os.path.isfile(path):
        raise UserError(f"nothing to resume: there is no checkpoint {path}")
    try:
        contents_of(path)
    except UserError as error:
        older = [other for other in checkpoints(path.parent) if other.name < path.name and path.match(PATTERN)]
        raise UserError(
            f"{error}" + (f"; an older one is {older[-1]}: give it with --resume" if older else "")
        ) from error
    return path


def set_aside_damaged(run: Path, chosen: Path | None) -> None:
    """Rename the checkpoints behind the newest sound one, so that they are neither resumed from nor kept as good."""
    for path in checkpoints(run):
        if chosen is not None and path.name > chosen.name:
            path.replace(path.with_name(path.name + SET_ASIDE))


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds, checked, without the values.

    Attributes:
        settings: Of its run.
        images_seen: How many images it has seen.
        shapes: Of the weights, by name.
        moments: Of each optimiser, {number of the parameter: shapes of Adam's moments}.
    """

    settings: Mapping[str, Any]
    images_seen: int
    shapes: Mapping[str, tuple[int, ...]]
    moments: tuple[Mapping[int, tuple[tuple[int, ...], ...]], ...]


def contents_of(path: Path) -> Contents:
    """Open a checkpoint and check that it is whole, of a training, and finite.

    Raises:
        UserError: It is not.
    """
    try:
        about = path.stat()
        if is_safetensors(path):
            raise UserError(f"{path} is no checkpoint but a snapshot, or weights: a training goes on from a {PATTERN}")
        return _contents(path, about.st_mtime_ns, about.st_size)
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read ({error.strerror or error})") from error


@lru_cache(maxsize=8)
def _contents(path: Path, modified_ns: int, size: int) -> Contents:
    try:
        state = read_torch(path)
    except UserError as error:
        raise UserError(f"checkpoint {path} is corrupt or not ours: {error}") from error
    try:
        settings, weights, optimisers = state[SETTINGS], state["state_dict"], state["optimizer_states"]
        images_seen = int(weights["images_seen"])
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        moments = tuple(
            {int(n): tuple(tuple(slots[m].shape) for m in MOMENTS) for n, slots in optimiser["state"].items()}
            for optimiser in optimisers
        )
        json.dumps(settings)  # plain values, or a TypeError
        known = {"state", "param_groups"}
        whole = isinstance(settings, dict) and images_seen >= 0 and {"loops", "callbacks"} <= state.keys()
        if not whole or not all(known <= optimiser.keys() for optimiser in optimisers):
            raise KeyError("its tables")
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise UserError(f"checkpoint {path} is not one of a training of this version: give another") from error
    if bad := first_not_finite(_numbers_of(state)):
        raise UserError(f"checkpoint {path} has {bad} that is not finite")
    return Contents(settings, images_seen, shapes, moments)


def read_checkpoint(path: Path, config: TrainingConfig) -> int:
    """Check that a checkpoint belongs to a run of these settings; return how many images it has seen.

    Raises:
        UserError: It is no sound checkpoint of a training, or one of other settings.
    """
    contents = contents_of(path)
    theirs, ours = contents.settings, config.to_json()
    for name in sorted((theirs.keys() | ours.keys()) - config.changeable):
        if theirs.get(name) != ours.get(name):
            difference = f"{name} {theirs.get(name)}, not {ours.get(name)}"
            raise UserError(f"checkpoint {path} is of a run with {difference}: give one of this run")
    return contents.images_seen


def check_weights(path: Path, module: nn.Module, networks: tuple[nn.Module, ...]) -> None:
    """Check that a checkpoint has the weights of a training, and Adam's moments their shapes.

    Args:
        path: The checkpoint.
        module: The training; its weights may have no values.
        networks: Those of its optimisers, in order.

    Raises:
        UserError: It has not.
    """
    contents = contents_of(path)
    expected = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    if wrong := sorted(expected.keys() ^ contents.shapes.keys()):
        raise UserError(f"checkpoint {path}: {len(wrong)} weights are missing or unknown: {', '.join(wrong[:5])}")
    for name, shape in expected.items():
        if contents.shapes[name] != shape:
            found = list(contents.shapes[name])
            raise UserError(f"checkpoint {path}: weight '{name}' has shape {found}, not {list(shape)}")
    of_parameters = [[tuple(p.shape) for p in network.parameters()] for network in networks]
    sound = len(contents.moments) == len(networks) and all(
        n < len(shapes) and moment == shapes[n]
        for moments, shapes in zip(contents.moments, of_parameters, strict=True)
        for n, both in moments.items()
        for moment in both
    )
    if not sound:
        raise UserError(f"checkpoint {path}: Adam's moments are not those of its weights")


def drop_others(newest: Path) -> None:
    """Delete the checkpoints that one just written replaces: the oldest, and those of a course that was left."""
    found = checkpoints(newest.parent)
    for path in set(found) - set([path for path in found if path <= newest][-KEPT:]):
        path.unlink()
