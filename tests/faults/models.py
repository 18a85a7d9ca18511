"""Sound files for the doors through which models come in, and pickles that would run code."""

import json
import os
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import torch

from rtil.generators import PGGANGenerator, StyleGAN2Generator
from rtil.snapshot import save_snapshot
from rtil.training.config import TrainingConfig, config_of

INFO = {"arch": "stylegan2", "rtil": False, "data": "synthetic", "resolution": 8, "kimg": 1.0, "seed": 0, "sigma": 1.0}


def generator(arch: str = "stylegan2") -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if arch == "pggan":
            return PGGANGenerator(8, {4: 4, 8: 4}, z_dim=8)
        return StyleGAN2Generator(8, {4: 4, 8: 4}, z_dim=8, w_dim=8, mapping_layers=2)


def snapshot(path: Path, arch: str = "stylegan2", **info: Any) -> Path:
    save_snapshot(path, generator(arch), INFO | {"arch": arch} | info)
    return path


def training(faces: Path, arch: str = "stylegan2", **changes: Any) -> TrainingConfig:
    small: dict[str, Any] = {"channels": {4: 4, 8: 4}, "z_dim": 8, "resolution": 8, "device": "cpu", "kimg": 0.016}
    small |= {"arch": arch, "data": str(faces), "checkpoint_kimg": 0.004, "log_kimg": 1, "grid_kimg": 1}
    small |= {"batches": {4: 4, 8: 4}} if arch == "pggan" else {"batch": 4, "w_dim": 8, "mapping_layers": 1}
    return config_of(small | changes)


def with_header(content: bytes, change: Any) -> bytes:
    """Return a safetensors file with another header, without a checksum, as older versions wrote it."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"].pop("rtil_sha256", None)
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


STRANGE: list[Any] = [None, True, -1, 0, 1e9, 10**9, 10**40, "x", "", [], {}, [[]], {"4": -1}, {"4": 10**9, "8": 10**9}]
STRANGE += [0.5, "stylegan2", "pggan", "mixture", "additive", float("nan"), float("inf"), {"a": 1}, [1, "x"], 2**62]


def strange_metadata(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change a value, name or table of a snapshot's metadata; the file stays sound safetensors."""
    done = ""

    def change(header: dict[str, Any]) -> None:
        nonlocal done
        metadata = header["__metadata__"]
        table = rng.choice(["config", "config", "info", ""])
        values = json.loads(metadata[table]) if table else metadata
        name, value = rng.choice([*values, "other"]), rng.choice(STRANGE)
        if rng.random() < 0.2:
            values.pop(name, None)
            value = "(taken out)"
        else:
            values[name] = value if table else str(value)
        done = f"{table}.{name} = {value!r}"
        if table:
            metadata[table] = json.dumps(values)

    return done, with_header(content, change)


def strange_checkpoint(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change a value somewhere in a checkpoint; the file stays a sound one of torch.save."""
    import io

    state = torch.load(io.BytesIO(content), weights_only=True)
    table, place = state, []
    while True:
        name = rng.choice(list(table))
        place.append(str(name))
        inner = table[name]
        if not isinstance(inner, dict) or not inner or rng.random() < 0.2:
            break
        table = inner
    kind = rng.choice(["out", "strange", "tensor", "nan"])
    if kind == "out":
        del table[name]
    elif kind == "strange":
        table[name] = rng.choice(STRANGE)
    elif kind == "tensor":
        table[name] = torch.zeros(rng.choice([(), (3,), (2, 2)]))
    elif isinstance(inner, torch.Tensor) and inner.is_floating_point():
        table[name] = torch.full_like(inner, rng.choice([float("nan"), float("inf")]))
    else:
        table[name] = float("nan")
    file = io.BytesIO()
    torch.save(state, file)
    return f"{'.'.join(place)}: {kind}", file.getvalue()


class Code:
    """Pickles as a call of a function; whoever unpickles it makes the call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def canaries(folder: Path, touched: Path) -> list[Path]:
    """Write pickles of every layout that is read anywhere, each of which would make the file ``touched``."""
    codes = {
        "touch": Code(Path.touch, touched),
        "system": Code(os.system, f"touch {touched}"),
        "exec": Code(exec, f"open({str(touched)!r}, 'w').close()"),
        "eval": Code(eval, f"open({str(touched)!r}, 'w').close()"),
    }
    written = []
    for name, code in codes.items():
        for protocol in (0, 2, 5):
            path = folder / f"{name}-{protocol}.pkl"
            path.write_bytes(pickle.dumps({"G_ema": code}, protocol))
            written.append(path)
        inner = pickle.dumps(code)
        nested = Code(torch.storage._load_from_bytes, inner)
        (folder / f"{name}-nested.pkl").write_bytes(pickle.dumps({"G_ema": nested}))
        written.append(folder / f"{name}-nested.pkl")
        for ending, legacy in (("pt", False), ("ckpt", False), ("pth", True)):
            path = folder / f"{name}.{ending}"
            torch.save({"state_dict": {"a": code}, "g_ema": code}, path, _use_new_zipfile_serialization=not legacy)
            written.append(path)
        for ending in ("safetensors", "json", "bin"):
            path = folder / f"{name}.{ending}"
            path.write_bytes(inner)
            written.append(path)
    return written


def flipped(path: Path, place: int) -> None:
    """Flip the lowest bit of a byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
