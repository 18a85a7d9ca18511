"""Whole sets in memory, decoded once: the result is kept on disk and mapped into memory the next time.

Files lie in the user's cache folder, or in ``$RTIL_CACHE``, named by a hash of everything that determines the pixels.
They can be deleted at any time.
"""

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rtil.data.base import ImageDataset
from rtil.errors import Notice, RunError
from rtil.files import atomic_path, cache_folder

CHUNK = 64
THREADS = 8


def preload(ds: ImageDataset) -> Tensor:
    """Return all pictures of a set as uint8 [N, 3, R, R].

    The tensor may be backed by a file; writing to it changes memory only.

    Raises:
        UserError: A picture cannot be read; the message names it.
    """
    shape = (len(ds), 3, ds.resolution, ds.resolution)
    path = cache_folder() / f"{ds.name}-{hashlib.sha256(repr(ds.identity()).encode()).hexdigest()[:32]}.npy"
    cached = _open(path, shape)
    if cached is not None:
        return cached
    images = _load_all(ds, shape)
    if len(images) > 1 and all(torch.equal(image, images[0]) for image in images):
        warnings.warn(f"all {len(images)} pictures of {ds.name} are equal: check the data", Notice, stacklevel=2)
    try:
        with atomic_path(path) as temporary:
            np.save(temporary, images.numpy(), allow_pickle=False)
    except RunError as error:
        warnings.warn(f"decoded images are not cached in {path.parent}: {error}", Notice, stacklevel=2)
    return images


def _open(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Map a cached set, or return None if it is absent, or not the array that was written, which is told.

    Its length, type and shape are those of the array; the pixels are not read, which would take as long as to decode.
    """
    if not path.is_file():
        return None
    try:
        array: Any = np.load(path, mmap_mode="c", allow_pickle=False)
        if array.shape == shape and array.dtype == np.uint8 and array.flags.c_contiguous:
            return torch.from_numpy(array)
        reason = "it is another array"
    except Exception as error:  # a damaged header can bring any
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    warnings.warn(f"the decoded images {path} are made again: {reason}", Notice, stacklevel=3)
    return None


def _load_all(ds: ImageDataset, shape: tuple[int, ...]) -> Tensor:
    images = torch.empty(shape, dtype=torch.uint8)
    chunks = [range(start, min(start + CHUNK, len(ds))) for start in range(0, len(ds), CHUNK)]

    def fill(chunk: range) -> int:
        images[chunk.start : chunk.stop] = ds.load(chunk)
        return len(chunk)

    bar = tqdm(total=len(ds), desc=f"Reading {ds.name}", unit="image", delay=1, disable=None)
    with bar, ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        try:
            for count in pool.map(fill, chunks):
                bar.update(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return images
