"""Which pictures of a training set the samples of a prior are compared with."""

import torch
from torch import Tensor

from rtil.seeds import generator

MOST_SAMPLES = 2000
"""Samples of every branch whose quality is measured beside a training, at most."""
REFERENCE_PICTURES = 5000
"""Real pictures that samples, and others as many as these, are compared with, at most."""


def pictures_to_compare(n: int, seed: int) -> Tensor:
    """Return the indices of n pictures in a random order: the first are the others, those behind them the reference."""
    return torch.randperm(n, generator=generator(seed, "quality/pictures"))
