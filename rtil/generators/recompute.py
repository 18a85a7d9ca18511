"""Activation checkpointing (Chen et al. 2016): layers that keep their inputs and compute the rest again.

A backward pass needs what every layer made in the forward pass. Layers that are run by :func:`recomputed` keep only
what went into them, and run once more when their turn in a backward pass comes: memory for time, with the same numbers.
Noise is drawn by keys, so nothing has to be remembered of it. Gradients of gradients (R1, path length) go the same way.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


def recomputed(layers: Callable[..., T], *inputs: Any) -> T:
    """Return ``layers(*inputs)``, of which a backward pass keeps the inputs only.

    Args:
        layers: A function of its inputs and of weights that do not change until the backward pass. It runs again
            outside of contexts that were left by then: it enters those that it needs itself.
        inputs: Tensors, or what holds them.
    """
    if not torch.is_grad_enabled():
        return layers(*inputs)
    return checkpoint(layers, *inputs, use_reentrant=False, preserve_rng_state=False)
