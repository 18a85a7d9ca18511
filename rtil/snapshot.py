"""Snapshots: the averaged generator as one safetensors file with its configuration. What users share.

The file's metadata holds ``format``, ``arch``, ``config`` (constructor arguments) and ``info`` (how it was trained) as
JSON, so that a snapshot opens without knowing anything else, and nothing in it can run code.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rtil.errors import RunError, UserError, unknown
from rtil.files import atomic_path
from rtil.generators import GENERATORS, LayeredGenerator
from rtil.generators.base import weight_hash
from rtil.pretrained import path_of
from rtil.runs import newest_snapshot

FORMAT = "rtil-snapshot-1"


@dataclass
class Snapshot:
    """An opened snapshot.

    Attributes:
        generator: In eval mode, float32, its weights frozen.
        info: How it was trained: arch, rtil, data, resolution, kimg, seed, sigma, ...
        weight_hash: SHA-256 over all weights; names the prior in results and caches.
        path: The file.
    """

    generator: LayeredGenerator
    info: dict[str, Any]
    weight_hash: str
    path: Path


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


def load_snapshot(path: Path | str, device: torch.device | str = "cpu") -> Snapshot:
    """Open a snapshot file, the newest one of a run folder, or a shipped prior such as ``shipped:rtil``.

    Raises:
        UserError: If there is none, or the file is not a sound snapshot.
    """
    path = path_of(path)
    if os.path.isdir(path):  # False also where one may not look
        path = newest_snapshot(path)
    if not os.path.isfile(path):
        raise UserError(f"snapshot {path} does not exist: give a run folder, a .safetensors file or shipped:rtil")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a readable snapshot ({error}): give a .safetensors file of this tool"
        ) from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path} has format '{metadata.get('format')}', this version reads '{FORMAT}'")
    if metadata["arch"] not in GENERATORS:
        raise unknown("architecture", metadata["arch"], GENERATORS)
    generator = GENERATORS[metadata["arch"]](**json.loads(metadata["config"]))
    _load_strictly(generator, tensors, path)
    generator.to(device).eval().requires_grad_(False)
    return Snapshot(generator, json.loads(metadata["info"]), weight_hash(generator), path)


def _load_strictly(generator: LayeredGenerator, tensors: dict[str, torch.Tensor], path: Path) -> None:
    expected = generator.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys())
    wrong += sorted(k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape)
    if wrong:
        raise UserError(f"{path}: {len(wrong)} weights are missing, unknown or of another shape: {wrong[:5]}")
    bad = [key for key, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise UserError(f"{path}: weight '{bad[0]}' is not finite")
    generator.load_state_dict(tensors)
