"""Fourier transforms of batches that may be empty, which MKL (PyTorch's FFT on x86 processors) refuses."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def transform(fft: Callable[..., Tensor], batch: Tensor, **options: Any) -> Tensor:
    """Return ``fft(batch, **options)``, also for a batch [0, ...].

    Example:
        >>> transform(torch.fft.rfft2, torch.zeros(0, 3, 8, 8)).shape
        torch.Size([0, 3, 8, 5])
    """
    if len(batch):
        return fft(batch, **options)
    return fft(torch.cat([batch, batch.new_zeros(1, *batch.shape[1:])]), **options)[:0]
