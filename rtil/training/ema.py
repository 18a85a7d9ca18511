"""Exponential moving average of the generator's weights, with its half-life in thousands of images."""

import torch
from torch import nn


def ema_decay(batch: int, halflife_kimg: float, images_seen: int, rampup: float) -> float:
    """Return the factor on the old average for one step of ``batch`` images.

    Args:
        batch: Images in the step.
        halflife_kimg: Images, in thousands, after which an old value counts half.
        images_seen: Images seen so far.
        rampup: The half-life is at most this fraction of ``images_seen``, so that early averages forget the start.
    """
    halflife = min(halflife_kimg * 1000, images_seen * rampup)
    return 0.5 ** (batch / max(halflife, 1e-8))


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the parameters of ``average`` towards those of ``model``; buffers are copied."""
    ours: list[torch.Tensor] = list(average.parameters())
    theirs: list[torch.Tensor] = list(model.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for ours_buffer, theirs_buffer in zip(average.buffers(), model.buffers(), strict=True):
        ours_buffer.copy_(theirs_buffer)
