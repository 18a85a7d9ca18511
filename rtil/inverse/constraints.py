"""Sets in which a round holds its variables: after each step, each variable is put back into its set.

A constraint is a function of the moved variable [N, ...] that returns the allowed one, image by image, and leaves what
is allowed as it is.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rtil.inverse.l1_ball import project_l1
from rtil.inverse.latent_space import on_sphere, row_norms

Constraint = Callable[[Tensor], Tensor]


def start_norms(start: Tensor) -> Constraint:
    """Keep the norms of the start: of style rows [N, L, D] each, of noise maps [N, 1, H, W] each (PULSE, ILO's code).

    What starts at zero has no norm to keep and is free.
    """
    norms = row_norms(start)
    return lambda t: on_sphere(t, norms)


def ball_around(start: Tensor, radius: float) -> Constraint:
    """Stay within an l1 ball around the start (ILO, algorithm 1, line 4): the deviations are sparse.

    Args:
        start: [N, ...].
        radius: Largest sum of an image's absolute deviations, >= 0.
    """

    def nearest(t: Tensor) -> Tensor:
        deviation = t - start
        allowed = project_l1(deviation, radius)
        return torch.where(allowed == deviation, t, start + allowed)

    return nearest


def typical_shell(sigma: float) -> Constraint:
    """Hold the norm at sigma sqrt(size), where nearly all of N(0, sigma^2 I) lies: p(z1) as a constraint (RTIL, 2.2).

    Args:
        sigma: Standard deviation, > 0; the variable must not be zero.
    """

    def scaled(t: Tensor) -> Tensor:
        flat = t.flatten(1)
        factors = sigma * math.sqrt(flat.shape[1]) / torch.linalg.vector_norm(flat, dim=1)
        return t * factors.view(-1, *[1] * (t.ndim - 1))

    return scaled
