"""The losses of both architectures, and those of their terms that differentiate a gradient.

StyleGAN2 (Karras et al. 2020, section 3.2; Mescheder et al. 2018 for R1):

    discriminator   E softplus(-D(x)) + E softplus(D(G(z)))          non-saturating logistic (Goodfellow et al. 2014)
    generator       E softplus(-D(G(z)))
    R1              gamma/2 E |grad_x D(x)|^2, on real pictures only
    path length     weight E (|J_w^T y| - a)^2, y ~ N(0, I / (HW)) pictures, a a running mean

PGGAN (Gulrajani et al. 2017; drift: Karras et al. 2018, appendix A.1):

    discriminator   E D(G) - E D(x) + lambda E (|grad D(x^)| - 1)^2 + epsilon E D(x)^2,   x^ between a real and a fake
    generator       -E D(G)

What D(G) stands for is summed over the parts of a step with their weights (:mod:`rtil.branches`). The convolutions of
the terms below come from :mod:`rtil.ops.conv2d`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rtil.ops import no_weight_gradients


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Return |grad_x D(x)|^2 per picture, [N], differentiable in D's weights.

    Args:
        discriminator: Maps [N, 3, R, R] to [N].
        real: [N, 3, R, R] in [-1, 1].
    """
    return _gradient_at(discriminator, real).square().sum(dim=(1, 2, 3))


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


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, position: Tensor) -> Tensor:
    """Return (|grad D(x^)| - 1)^2 per picture, [N], differentiable in D's weights.

    Args:
        discriminator: Maps [N, 3, R, R] to [N].
        real: [N, 3, R, R] in [-1, 1].
        fake: [N, 3, R, R].
        position: [N] in [0, 1], where between real (0) and fake (1) the gradient is taken.
    """
    between = torch.lerp(real, fake, position[:, None, None, None])
    return (_gradient_at(discriminator, between).flatten(1).norm(dim=1) - 1).square()


def _gradient_at(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the gradient of D's scores at x, [N, 3, R, R], with the graph that leads to D's weights."""
    x = x.detach().requires_grad_(True)
    scores = discriminator(x).sum()
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad(scores, x, create_graph=True)
    return gradient
