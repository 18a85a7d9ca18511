"""Snapshots: the averaged generator as one safetensors file with its configuration. What users share.

The file's metadata holds ``format``, ``arch``, ``config`` (constructor arguments) and ``info`` (how it was trained) as
JSON, so that a snapshot opens without knowing anything else, and nothing in it can run code. Other projects' files
(:mod:`rtil.interop.foreign`) open in the place of snapshots; their ``info`` says nothing of their training.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch

from rtil.errors import RunError, UserError, unknown
from rtil.generators import GENERATORS, LayeredGenerator
from rtil.generators.base import load_strictly, weight_hash
from rtil.interop.checkpoint_files import is_safetensors
from rtil.interop.foreign import read_foreign
from rtil.pretrained import path_of
from rtil.runs import newest_snapshot
from rtil.schema import shown, typed_table
from rtil.snapshot_header import FORMAT, Header, read_header
from rtil.tensor_files import read_tensors, write_tensors

MOST = 2**20
"""Of a side, a width or a number of layers; a network without values is made of them, and has to end."""


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
    write_tensors(path, tensors, metadata)


def is_snapshot(path: Path) -> bool:
    """Return whether a file is a snapshot of this tool, not another project's.

    Raises:
        UserError: It cannot be read.
    """
    return _header_of(path) is not None


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
    header = _header_of(path)
    if header is None:
        foreign = read_foreign(path)
        generator, info = foreign.generator, foreign.info
    else:
        try:
            generator, info = _generator_of(header, path), header.info
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    generator.to(device).eval().requires_grad_(False)
    return Snapshot(generator, info, weight_hash(generator), path)


def _header_of(path: Path) -> Header | None:
    """Return what a snapshot says of itself; of any other file None."""
    try:
        return read_header(path) if is_safetensors(path) else None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): mend that, or give another") from error


def _generator_of(header: Header, path: Path) -> LayeredGenerator:
    if header.arch not in GENERATORS:
        raise unknown("architecture", header.arch, GENERATORS)
    build = GENERATORS[header.arch]
    kinds = {name: kind for name, kind in get_type_hints(build.__init__).items() if name != "return"}
    config = typed_table(header.config, kinds, "its config")
    if "resolution" not in config:
        raise UserError("its config lacks the resolution: get it again")
    _check_size(build, config, header)
    generator = build(**config)
    load_strictly(generator, read_tensors(path))
    return generator


def _check_size(build: type[LayeredGenerator], config: dict[str, Any], header: Header) -> None:
    """Refuse a config whose weights are not those of the file, before any memory is taken for them.

    Layers are counted and a network without values is compared: a few bytes could ask for a billion weights.
    """
    for name, value in config.items():
        sizes = value.values() if isinstance(value, dict) else [value]
        if any(type(size) is int and not 1 <= size <= MOST for size in sizes):
            raise UserError(f"its {name} is {shown(value)}: valid is from 1 to {MOST}")
    if (layers := config.get("mapping_layers", 0)) > len(header.shapes):
        raise UserError(f"its config has {layers} mapping layers, and the file only {len(header.shapes)} weights")
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in build(**config).state_dict().items()}
    if wrong := sorted(expected.keys() ^ header.shapes.keys()):
        raise UserError(f"{len(wrong)} weights are missing or unknown: {', '.join(wrong[:5])}")
    for name, shape in expected.items():
        if header.shapes[name] != shape:
            raise UserError(f"weight '{name}' has shape {list(header.shapes[name])}, not {list(shape)}")
