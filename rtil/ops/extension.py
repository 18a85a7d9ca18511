"""The compiled library, loaded at first use: ``torch.ops.rtil.*`` with fake kernels and derivatives."""

import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import torch

from rtil.errors import Notice
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
_outcome: Extension | BuildError | None = None


def load() -> Extension:
    """Return the library, found or built and loaded by the first call.

    With a GPU that no library can be built for, the CPU's is loaded: CUDA tensors then take the native tier.

    Raises:
        BuildError: It cannot be built: one line with cause and mend.
    """
    outcome = find(warn=False)
    if isinstance(outcome, BuildError):
        raise BuildError(str(outcome))
    return outcome


def find(warn: bool = True) -> Extension | BuildError:
    """Return the library or why there is none; the first failure is also a warning."""
    global _outcome
    if _outcome is None:  # no lock where there is nothing to wait for: torch.compile cannot trace one
        with _lock:
            if _outcome is None:
                _outcome = _load()
                error = str(_outcome) if isinstance(_outcome, BuildError) else _outcome.cuda_error
                if warn and error is not None:
                    warnings.warn(error, Notice, stacklevel=3)
    return _outcome


def _load() -> Extension | BuildError:
    cuda, cuda_error = torch.cuda.is_available(), None
    try:
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
