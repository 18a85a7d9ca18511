"""The compiled library, loaded at first use: ``torch.ops.rtil.*`` with fake kernels and derivatives."""

import functools
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

from rtil.ops import build, derivatives
from rtil.ops.build import BuildError


class Extension(NamedTuple):
    """The loaded library.

    Attributes:
        path: Of the shared library.
        cuda: Whether it has CUDA kernels.
        cuda_error: Why it has none although there is a GPU.
    """

    path: Path
    cuda: bool
    cuda_error: str | None


_lock = threading.Lock()


def load() -> Extension:
    """Return the library, found or built and loaded by the first call.

    With a GPU that no library can be built for, the CPU's is loaded: CUDA tensors then take the native tier.

    Raises:
        BuildError: It cannot be built: one line with cause and mend.
    """
    with _lock:
        outcome = _load()
    if isinstance(outcome, BuildError):
        raise outcome
    return outcome


def find() -> Extension | BuildError:
    """Return the library or why there is none; the first failure is also a warning."""
    with _lock:
        fresh = _load.cache_info().currsize == 0
        outcome = _load()
    error = str(outcome) if isinstance(outcome, BuildError) else outcome.cuda_error
    if fresh and error is not None:
        warnings.warn(error, stacklevel=2)
    return outcome


@functools.cache
def _load() -> Extension | BuildError:
    cuda_error = None
    try:
        cuda = torch.cuda.is_available()
        try:
            path = build.library(cuda)
        except BuildError as error:
            if not cuda:
                raise
            cuda, cuda_error = False, str(error)
            path = build.library(cuda=False)
        torch.ops.load_library(path)
    except BuildError as error:
        return error
    except OSError as error:
        return BuildError(f"{path} cannot be loaded ({error}): delete it, and it is built again")
    derivatives.register()
    return Extension(path, cuda, cuda_error)
