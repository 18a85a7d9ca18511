"""The terms of the objective, each one value per image.

The measurement error is on one scale for every task: generator units ([-1, 1]), normalised so that its expectation is
the picture's mean squared error. So a weight beside it means the same for every operator and rate.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.seeds import generator

HELDOUT_FRACTION = 0.1
ROOT_EPSILON = 1e-9


def measurement_error(operator: Any, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return 4 ||A x - y||^2 / c over the observed entries, c being the operator's ``error_normaliser``.

    The 4 turns [0, 1] into generator units. An operator of another library, which has neither ``observed`` nor
    ``error_normaliser``, counts all entries and c is their number. An operator that says itself how likely y is, by a
    ``negative_log_likelihood(x, y)`` [N], has that as its error.

    Args:
        operator: Anything with ``A``.
        x: Pictures [N, C, H, W] in [0, 1], not clamped.
        y: Measurements [N, ...].
        weight: Factor of every squared entry, broadcastable to y; from :func:`split_heldout`.

    Returns:
        [N], in expectation the mean squared error of the pictures in [-1, 1].
    """
    if hasattr(operator, "negative_log_likelihood"):
        likelihood: Tensor = operator.negative_log_likelihood(x, y)
        return likelihood
    residual = operator.A(x) - y
    observed = getattr(operator, "observed", None)
    if observed is not None:
        residual = torch.where(observed, residual, 0)
    squares = residual.square() if weight is None else residual.square() * weight
    normaliser = getattr(operator, "error_normaliser", residual[0].numel())
    return 4 * squares.flatten(1).sum(1) / normaliser


class Split(NamedTuple):
    """Weights of the measurement's entries for fitting and for judging; entries of one are zero in the other."""

    fit: Tensor
    heldout: Tensor


def split_heldout(operator: Any, y: Tensor, seed: int) -> Split:
    """Keep back a tenth of the observed entries, to judge iterates by what they were not fitted to.

    Measurements that are pictures [N, C, H, W] lose whole pixels, since the channels of a pixel tell of each other.
    All images share the split. The weights are such that each error still estimates the picture's.

    Args:
        operator: Anything with ``A``, perhaps with ``observed``.
        y: Measurements [N, ...].
        seed: Root seed.

    Raises:
        UserError: Fewer than two entries are observed, or they have no errors of their own.
    """
    if hasattr(operator, "negative_log_likelihood"):
        raise UserError("selection 'heldout' has no entries to hold out of a likelihood: use 'measurement' or 'last'")
    shape = y.shape[1:]
    observed = getattr(operator, "observed", torch.ones((), dtype=torch.bool)).cpu().expand(shape)
    places = observed.any(0) if len(shape) == 3 else observed
    candidates = places.flatten().nonzero().flatten()
    if len(candidates) < 2:
        raise UserError("selection 'heldout' needs 2 observed entries or more: use 'measurement' or 'last'")
    chosen = torch.randperm(len(candidates), generator=generator(seed, "inverse/heldout"))
    kept_back = torch.zeros(places.numel(), dtype=torch.bool)
    kept_back[candidates[chosen[: max(1, round(HELDOUT_FRACTION * len(candidates)))]]] = True
    heldout = kept_back.view(places.shape).expand(shape) & observed
    fit = observed & ~heldout

    def weight(mask: Tensor) -> Tensor:
        return (mask * (observed.sum() / mask.sum())).to(y)

    return Split(weight(fit), weight(heldout))


def geodesic(v: Tensor) -> Tensor:
    """Return the mean squared great-circle distance between an image's style rows (PULSE's GEOCROSS, ILO).

    d(a, b) = 2 atan2(||a - b||, ||a + b||), mean over all L x L pairs of 512 d^2 / 8. Independent Gaussian rows have
    64 (pi / 2)^2 (L - 1) / L: 149 for 18 rows. The 512 is the papers' constant, whatever the length of a row.

    Args:
        v: Rows [N, L, D] before the mapping to ws.

    Returns:
        [N]; equal rows give 0.
    """
    L = v.shape[1]
    first, second = torch.triu_indices(L, L, offset=1, device=v.device)
    squares = v.square().sum(2)
    both = squares[:, first] + squares[:, second]
    twice_dot = 2 * (v @ v.mT)[:, first, second]
    minus = ((both - twice_dot).clamp(min=0) + ROOT_EPSILON).sqrt()
    plus = ((both + twice_dot).clamp(min=0) + ROOT_EPSILON).sqrt()
    d = 2 * torch.atan2(minus, plus)
    return d.square().sum(1) * (2 / L**2 * 512 / 8)


def gaussian_penalty(z1: Tensor) -> Tensor:
    """Return ||z1||^2 / (2 size) per image: the negative log density of N(0, I), per entry.

    RTIL trains with z1 ~ N(0, sigma^2); a weight of 1 / sigma^2 makes it that prior's.
    """
    return z1.square().flatten(1).sum(1) / (2 * math.prod(z1.shape[1:]))
