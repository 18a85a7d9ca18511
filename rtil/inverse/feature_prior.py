"""A Gaussian for deviations at a cut of a generator that was trained without any: the spread of its own features.

RTIL adds N(0, sigma^2) to the feature at a cut while it trains, so that is the prior of z1. A vanilla generator knows
none. What can be said is how its features vary over its own input,

    z1_k ~ N(0, tau^2 Cov[head_k(z, noise)]),

with one variance for each channel, or the full covariance where that has at most 2048 x 2048 entries (cut 1 of the
default widths), shrunk to a positive definite one by a hundredth of its mean variance.
"""

import math

import torch
from torch import Tensor

from rtil import seeds
from rtil.generators.base import LayeredGenerator, weight_hash
from rtil.inverse.settings import FeaturePrior
from rtil.kept import kept, key_of

FULL_ENTRIES = 2048
DRAWS = 1024
DRAWS_PER_ENTRY = 4
CHUNK = 64
FLOOR = 0.01


def feature_factor(generator: LayeredGenerator, cut: int, kind: FeaturePrior) -> Tensor:
    """Return L with Cov = L L^T of the feature at a cut: [n, n], n = C H W; or of each channel the deviation, [C].

    It is fitted once for a generator's weights, and kept in the cache.

    Args:
        generator: The prior.
        cut: Which cut.
        kind: ``channel``, or ``full``, which is ``channel`` where it does not fit.
    """
    shape = generator.cut_shape(cut)
    n = math.prod(shape)
    full = kind == "full" and n <= FULL_ENTRIES
    key = key_of([weight_hash(generator), cut, full])
    sizes = {"factor": (n, n) if full else shape[:1]}
    found = kept("feature-prior", key, sizes, lambda: {"factor": _fit(generator, cut, full)})
    return found["factor"].to(generator.device)


def colour(factor: Tensor, white: Tensor) -> Tensor:
    """Return deviations [N, C, H, W] from draws of N(0, I)."""
    if factor.ndim == 1:
        return white * factor[:, None, None]
    return (white.flatten(1) @ factor.T).unflatten(1, white.shape[1:])


def whiten(factor: Tensor, z1: Tensor) -> Tensor:
    """Undo :func:`colour`."""
    if factor.ndim == 1:
        return z1 / factor[:, None, None]
    return torch.linalg.solve_triangular(factor, z1.flatten(1).T, upper=False).T.unflatten(1, z1.shape[1:])


@torch.no_grad()
def _fit(generator: LayeredGenerator, cut: int, full: bool) -> Tensor:
    rng = seeds.generator(0, "inverse/feature-prior", str(cut))
    n = math.prod(generator.cut_shape(cut))
    draws = max(DRAWS, DRAWS_PER_ENTRY * n) if full else DRAWS
    parts = []
    with generator.computing_in(None):
        for first in range(0, draws, CHUNK):
            count = min(CHUNK, draws - first)
            ws = generator.mapping(generator.draw_z(count, rng))
            parts.append(generator.head(ws, generator.draw_noise(count, rng), cut).feature.float().cpu())
    feature = torch.cat(parts)
    if not full:
        return (feature - feature.mean(0)).square().mean((0, 2, 3)).sqrt().clamp(min=1e-6)
    covariance = torch.cov(feature.flatten(1).double().T)
    shift = (FLOOR * covariance.diagonal().mean()).clamp(min=1e-12)
    return torch.linalg.cholesky((1 - FLOOR) * covariance + shift * torch.eye(n, dtype=torch.float64)).float()
