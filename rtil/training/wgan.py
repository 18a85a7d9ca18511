"""The Wasserstein loss with gradient penalty (Gulrajani et al. 2017; drift: Karras et al. 2018, appendix A.1).

    discriminator   E D(G) - E D(x) + lambda E (|grad D(x^)| - 1)^2 + epsilon E D(x)^2,   x^ between a real and a fake
    generator       -E D(G)

The penalty differentiates a gradient; its convolutions therefore come from :mod:`rtil.ops.conv2d`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rtil.ops import no_weight_gradients


def wasserstein_estimate(real_scores: Tensor, fake_scores: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return E D(x) - sum_j lambda_j E D(G_j), a scalar.

    Args:
        real_scores: [N].
        fake_scores: [N] per part of the step.
        weights: lambda of each part; they sum to 1.
    """
    fake = torch.stack([w * scores.mean() for scores, w in zip(fake_scores, weights, strict=True)]).sum()
    return real_scores.mean() - fake


def drift_penalty(real_scores: Tensor) -> Tensor:
    """Return E D(x)^2, which keeps the scores near 0."""
    return real_scores.square().mean()


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, position: Tensor) -> Tensor:
    """Return (|grad D(x^)| - 1)^2 per picture, [N], differentiable in D's weights.

    Args:
        discriminator: Maps [N, 3, R, R] to [N].
        real: [N, 3, R, R] in [-1, 1].
        fake: [N, 3, R, R].
        position: [N] in [0, 1], where between real (0) and fake (1) the gradient is taken.
    """
    between = torch.lerp(real, fake.detach(), position[:, None, None, None]).requires_grad_(True)
    scores = discriminator(between).sum()
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad(scores, between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square()
