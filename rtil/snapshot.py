"""Snapshots: the averaged generator as one safetensors file with its configuration. What users share.

The file's metadata holds ``format``, ``arch``, ``config`` (constructor arguments) and ``info`` (how it was trained) as
JSON, so that a snapshot opens without knowing anything else, and nothing in it can run code. Other projects' files
(:mod:`rtil.interop.foreign`) open in the place of snapshots; their ``info`` says nothing of their training.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from rtil.errors import RunError, UserError, unknown
from rtil.files import atomic_path
from rtil.generators import GENERATORS, LayeredGenerator
from rtil.generators.base import load_strictly, weight_hash
from rtil.interop.checkpoint_files import is_safetensors
from rtil.interop.foreign import read_foreign
from rtil.pretrained import path_of
from rtil.runs import newest_snapshot

FORMAT = "rtil-snapshot-1"


@dataclass
class Snapshot:
    """An opened snapshot.

    Attributes:
        generator: In eval mode, float32, its weights frozen.
        info: How it was trained: arch, rtil, data, resolution, kimg, seed, sigma, ...; of a network that was trained
            elsewhere arch, resolution, layout (whose it is), file, network, w_mean, and its card: source, licence.
        weight_hash: SHA-256 over all weights; names the prior in results and caches.
        path: The file.
    """

    generator: LayeredGenerator
    info: dict[str, Any]
    weight_hash: str
    path: Path

    @property
    def training(self) -> str:
        """How long it was trained, or that this was elsewhere, for people."""
        kimg = self.info.get("kimg")
        return f"trained elsewhere, {self.info.get('layout', 'no card')}" if kimg is None else f"{kimg:g} kimg"


def save_snapshot(path: Path, generator: LayeredGenerator, info: dict[str, Any]) -> None:
    """Write a snapshot atomically.

    Args:
        path: The .safetensors file.
        generator: The averaged generator.
        info: JSON values that say how it was trained.

    Raises:
        RunError: If a weight is not finite; nothing is written then.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in generator.state_dict().items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RunError(f"weight '{name}' is not finite: no snapshot was written to {path}")
    metadata = {
        "format": FORMAT,
        "arch": generator.arch,
        "config": json.dumps(generator.config),
        "info": json.dumps(info),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def is_snapshot(path: Path) -> bool:
    """Return whether a file is a snapshot of this tool, not another project's.

    Raises:
        UserError: It cannot be read.
    """
    return "format" in _metadata(path)


def load_snapshot(path: Path | str, device: torch.device | str = "cpu") -> Snapshot:
    """Open a snapshot, the newest one of a run folder, a shipped prior such as ``shipped:rtil``, or a foreign file.

    Raises:
        UserError: If there is none, or the file is neither a sound snapshot nor a checkpoint that can be converted.
    """
    path = path_of(path)
    if os.path.isdir(path):  # False also where one may not look
        path = newest_snapshot(path)
    if not os.path.isfile(path):
        raise UserError(f"snapshot {path} does not exist: give a run folder, a snapshot, a checkpoint or shipped:rtil")
    metadata = _metadata(path)
    if "format" in metadata:
        generator, info = _open_own(path, metadata)
    else:
        foreign = read_foreign(path)
        generator, info = foreign.generator, foreign.info
    generator.to(device).eval().requires_grad_(False)
    return Snapshot(generator, info, weight_hash(generator), path)


def _metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; of any other file none."""
    try:
        if not is_safetensors(path):
            return {}
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable snapshot or checkpoint ({error}): get it again") from error


def _open_own(path: Path, metadata: dict[str, str]) -> tuple[LayeredGenerator, dict[str, Any]]:
    if metadata["format"] != FORMAT:
        raise UserError(f"{path} has format '{metadata['format']}', this version reads '{FORMAT}'")
    if metadata["arch"] not in GENERATORS:
        raise unknown("architecture", metadata["arch"], GENERATORS)
    generator = GENERATORS[metadata["arch"]](**json.loads(metadata["config"]))
    try:
        load_strictly(generator, load_file(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return generator, json.loads(metadata["info"])
