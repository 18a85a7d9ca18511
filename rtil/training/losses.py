"""StyleGAN2's losses (Karras et al. 2020, section 3.2; Mescheder et al. 2018 for R1).

    discriminator   E softplus(-D(x)) + E softplus(D(G(z)))          non-saturating logistic (Goodfellow et al. 2014)
    generator       E softplus(-D(G(z)))
    R1              gamma/2 E |grad_x D(x)|^2, on real pictures only
    path length     weight E (|J_w^T y| - a)^2, y ~ N(0, I / (HW)) pictures, a a running mean

The two regularisers differentiate a gradient; their convolutions therefore come from :mod:`rtil.ops.conv2d`.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.ops import no_weight_gradients


def discriminator_loss(real_scores: Tensor, fake_scores: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the logistic loss of D, a scalar.

    Args:
        real_scores: [N].
        fake_scores: [N] per part of the step.
        weights: lambda of each part; they sum to 1 (see :mod:`rtil.branches`).
    """
    fake = sum(
        (w * F.softplus(scores).mean() for scores, w in zip(fake_scores, weights, strict=True)),
        real_scores.new_zeros(()),
    )
    return F.softplus(-real_scores).mean() + fake


def generator_loss(fake_scores: Tensor) -> Tensor:
    """Return the non-saturating logistic loss of G, a scalar, from fake_scores [N]."""
    return F.softplus(-fake_scores).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Return |grad_x D(x)|^2 per picture, [N], differentiable in D's weights.

    Args:
        discriminator: Maps [N, 3, R, R] to [N].
        real: [N, 3, R, R] in [-1, 1].
    """
    real = real.detach().requires_grad_(True)
    scores = discriminator(real).sum()
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad(scores, real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, y: Tensor, codes: Tensor) -> Tensor:
    """Return |J_w^T y| per picture, [N], differentiable in G's weights.

    Args:
        images: [N, 3, R, R], made from ws.
        ws: [M, L, w_dim] codes of all pictures, one picture's after the other's.
        y: [N, 3, R, R] ~ N(0, 1 / (H W)).
        codes: [N] codes of every picture; its squared length is the sum over them.

    Returns:
        sqrt of the mean over style slots of the squared gradient.
    """
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    squares = gradient.square().sum(dim=2).mean(dim=1)  # [M]
    return torch.stack([of_picture.sum() for of_picture in squares.split(codes.tolist())]).sqrt()
