"""What is fitted beforehand is kept in the cache, as tensors under a hash of all that it depends on."""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from rtil.caches import made_once
from rtil.errors import Notice, RunError, UserError
from rtil.files import cache_folder
from rtil.tensor_files import read_tensors, write_tensors

Tensors = Mapping[str, Tensor]


def key_of(about: Sequence[Any]) -> str:
    """Return 32 hex digits that depend on JSON-like values; others count by their text."""
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:32]


def kept(kind: str, key: str, shapes: Mapping[str, Sequence[int]], make: Callable[[], Tensors]) -> Tensors:
    """Return tensors from the cache, or make and keep them; of several processes one makes them.

    Args:
        kind: What they are, in words and in the file's name.
        key: From :func:`key_of`.
        shapes: By name; what else there is, is made anew.
        make: Called without arguments.
    """
    path = cache_folder() / f"{kind}-{key}.safetensors"
    with made_once(path):
        try:
            found = read_tensors(path, needs_checksum=True) if path.is_file() else {}
            if all(n in found and tuple(found[n].shape) == tuple(s) for n, s in shapes.items()) and all(
                bool(t.isfinite().all()) for t in found.values()
            ):
                return found
            reason = "it holds something else" if path.is_file() else ""
        except UserError as error:
            reason = str(error)
        if reason:
            warnings.warn(f"{path} is damaged ({reason}) and made anew", Notice, stacklevel=2)
        made = make()
        try:
            write_tensors(path, {name: t.contiguous() for name, t in made.items()}, {})
        except RunError as error:
            warnings.warn(f"the {kind} is not cached ({error})", Notice, stacklevel=2)
    return made
