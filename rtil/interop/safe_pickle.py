"""A pickle opened without running anything of it: its weights and plain values, and nothing else.

A pickle names functions that are called while it is read, so a general unpickler runs whatever the file wants. Here the
names are looked up in a short table: the rebuilders of tensors, containers, and placeholders that keep or drop what
they are given; each file gets copies of these, as it may set attributes of what it names. NVIDIA's networks bring the
source text of their classes along; it is never compiled, and of each module only the name of its class and its state
are kept. Any other name is refused before anything is called.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtil.errors import UserError


class Settings:
    """A record of settings: whatever its state held, as attributes."""


class Module:
    """One of NVIDIA's persistent objects.

    Attributes:
        class_name: Of the class that its source text would define.
        state: Its attributes; of a network ``_parameters``, ``_buffers`` and ``_modules`` too.
    """

    def __init__(self, meta: dict[str, Any]) -> None:
        self.class_name, self.state = str(meta["class_name"]), dict(meta["state"])


class _Table(dict[Any, Any]):
    """A dictionary with attributes, whose attributes do not matter."""


class _Dropped:
    """Stands for a value that is no weight, such as a number of NumPy's."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensor_of_parameter(data: Tensor, *args: Any) -> Tensor:
    return data


KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): tuple,
    ("torch", "device"): _Dropped,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _tensor_of_parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Module,
    ("dnnlib.util", "EasyDict"): _Table,
    ("numpy", "dtype"): _Dropped,
    ("numpy", "ndarray"): _Dropped,
    **{
        (f"numpy.{core}.multiarray", name): _Dropped
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    },
}
"""What a pickle may name."""


class _Unpickler(pickle._Unpickler):
    """Python's own, not the one in C, which takes gigabytes for a file of ten bytes that numbers its memo so."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("dnnlib.tflib"):
            raise UserError(
                "it is a TensorFlow pickle: convert it with legacy.py of NVIDIA's stylegan2-ada-pytorch first"
            )
        if (module, name) not in KNOWN:
            raise UserError(f"it names {module}.{name}, which is no part of weights; nothing of it was run")
        found = KNOWN[module, name]
        return type(found.__name__, (found,), {}) if isinstance(found, type) else partial(found)

    def persistent_load(self, pid: Any) -> Any:
        raise UserError("it refers to data outside of itself")


def read_pickle(path: Path) -> Any:
    """Return what a pickle holds: tensors, containers, plain values and :class:`Module` records.

    Raises:
        UserError: It names anything else; the message lacks the file's name.
        Exception: Whatever comes of a damaged file.
    """
    with path.open("rb") as file:
        return _Unpickler(file).load()
