"""The terms of the objective beside the operator's error, each one value per image, and what of y is held out."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import Operator
from rtil.seeds import generator

HELDOUT_FRACTION = 0.1
ROOT_EPSILON = 1e-9


class Split(NamedTuple):
    """Weights of the measurement's entries for fitting and for judging; entries of one are zero in the other."""

    fit: Tensor
    heldout: Tensor


def split_heldout(
    operator: Operator, y: Tensor, seed: int, fraction: float = HELDOUT_FRACTION, selection: str = "heldout"
) -> Split:
    """Keep back a tenth of the observed entries, to judge iterates by what they were not fitted to.

    Measurements that are pictures [N, C, H, W] lose whole pixels, since the channels of a pixel tell of each other.
    All images share the split. The weights are such that each error still estimates the picture's.

    Args:
        operator: The operator.
        y: Measurements [N, ...].
        seed: Root seed.
        fraction: What is kept back of them.
        selection: Who asks.

    Raises:
        UserError: Fewer than two entries are observed, or they have no errors of their own.
    """
    other = "use 'measurement' or 'last'"
    if not operator.entries_have_errors:
        raise UserError(f"selection '{selection}' has no entries to hold out of a likelihood: {other}")
    shape, observed = y.shape[1:], operator.observed.cpu()
    places = observed.any(0) if len(shape) == 3 else observed
    candidates = places.flatten().nonzero().flatten()
    if len(candidates) < 2:
        raise UserError(f"selection '{selection}' needs 2 observed entries or more: {other}")
    chosen = torch.randperm(len(candidates), generator=generator(seed, f"inverse/{selection}"))
    kept_back = torch.zeros(places.numel(), dtype=torch.bool)
    kept_back[candidates[chosen[: max(1, round(fraction * len(candidates)))]]] = True
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
