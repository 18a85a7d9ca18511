"""Conjugate gradients for a batch of independent systems, one per image; and the largest eigenvalue of such a map."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from rtil.errors import Notice


def conjugate_gradient(apply: Callable[[Tensor], Tensor], b: Tensor, tolerance: float, max_steps: int) -> Tensor:
    """Solve ``apply(x) = b`` for every image of a batch, from x = 0 (Hestenes and Stiefel 1952).

    An image stops moving once its own residual is small, so its solution does not depend on its batch mates. Where
    the system is singular but consistent, the solution is the one of least norm.

    Args:
        apply: Symmetric positive semi-definite map of [N, ...] to [N, ...], image by image.
        b: Right-hand sides [N, ...], finite.
        tolerance: Residual norm, relative to that of b, at which an image is solved.
        max_steps: Most steps; a warning tells when an image was not solved by then.
    """

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).flatten(1).sum(1).reshape(-1, *[1] * (b.ndim - 1))

    x, residual, direction = torch.zeros_like(b), b, b
    energy = dot(residual, residual)
    solved_below = tolerance**2 * energy
    for _ in range(max_steps):
        active = energy > solved_below
        if not active.any():
            return x
        image = apply(direction)
        step = torch.where(active, energy, 0) / torch.where(active, dot(direction, image), 1)
        x = x + step * direction
        residual = residual - step * image
        new_energy = torch.where(active, dot(residual, residual), energy)
        direction = torch.where(active, residual + new_energy / torch.where(active, energy, 1) * direction, direction)
        energy = new_energy
    unsolved = int((energy > solved_below).sum())
    if unsolved:
        warnings.warn(
            f"conjugate gradients left {unsolved} of {len(b)} images above the tolerance {tolerance:g} after "
            f"{max_steps} steps; raise max_iter or tol",
            Notice,
            stacklevel=3,
        )
    return x


def largest_eigenvalue(apply: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, max_steps: int) -> Tensor:
    """Return the largest eigenvalue of a symmetric positive semi-definite map, a scalar, by power iteration.

    Args:
        apply: The map.
        start: What it is applied to first; not orthogonal to what is sought, as random numbers are not.
        tolerance: Relative change of the estimate, which rises from below, at which it stops.
        max_steps: Most steps.
    """
    x, estimate = start / start.norm(), start.new_zeros(())
    for _ in range(max_steps):
        image = apply(x)
        before, estimate = estimate, (x * image).sum()
        if estimate - before <= tolerance * estimate:
            return estimate
        x = image / image.norm()
    return estimate
