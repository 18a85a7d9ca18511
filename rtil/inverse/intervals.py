"""Intervals of pixels from the spread of several attempts, how often they hold the truth, and what makes that right.

If the S attempts at a pixel and its truth are independent draws of one Gaussian, as samples of a posterior are that is
one, then the truth lies within

    mean  +-  t_(S-1)((1 + level) / 2) sqrt(1 + 1 / S) s

with probability ``level``, s the standard deviation of the attempts with divisor S - 1 (Student's prediction interval;
Geisser 1993, chapter 2): the mean of a few attempts is itself uncertain, and so is s. Restarts of a minimiser are no
such samples, and those of one chain hang together. Then one factor, by which all intervals are widened, is fitted to
pictures with known truth that are not those on which coverage is told.

A pixel that all attempts agree on, and that they hit, is measured, not estimated: it counts for nothing.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Nominal coverage of the intervals that are told of."""
NO_SPREAD = 1e-6
"""Rounding of attempts that agree."""
HALF_A_BYTE = 0.5 / 255
FACTORS = torch.logspace(-1, 1.5, 501, dtype=torch.float64)
"""Among which the one is found that widens intervals: 0.1 to 32, 1.2 % apart."""


def half_width(spread: Tensor, attempts: int, level: float, scale: float = 1.0) -> Tensor:
    """Return half the length of each pixel's interval.

    Args:
        spread: Standard deviations of the attempts.
        attempts: S, at least 2.
        level: Nominal coverage, between 0 and 1.
        scale: Factor by which intervals are widened, from :func:`fit_scale`.
    """
    return scale * _quantile(attempts, level) * spread


def coverage(x: Tensor, spread: Tensor, truth: Tensor, attempts: int, scale: float = 1.0) -> Tensor:
    """Return the share of each picture's pixels and channels that their intervals hold, [N, levels], float64.

    NaN for a picture of which all is measured.

    Args:
        x: [N, C, H, W] in [0, 1], the mean of the attempts.
        spread: Their standard deviations.
        truth: In [0, 1].
        attempts: S.
        scale: See :func:`half_width`.
    """
    error, estimated = (x - truth).abs(), _estimated(x, spread, truth)
    held = [(error <= half_width(spread, attempts, level, scale)) & estimated for level in LEVELS]
    counts = torch.stack([t.flatten(1).sum(1) for t in held], 1).double()
    return counts / estimated.flatten(1).sum(1, keepdim=True)


def fit_scale(x: Tensor, spread: Tensor, truth: Tensor, attempts: int) -> float:
    """Return the factor with which coverage of pictures is nearest to the nominal one, in squares over all levels.

    Args:
        x: [N, C, H, W], as the others; see :func:`coverage`.
        spread: Standard deviations.
        truth: Pictures that no result is told of.
        attempts: S.
    """
    estimated = _estimated(x, spread, truth)
    ratio = ((x - truth).abs() / spread.clamp(min=NO_SPREAD))[estimated].double().sort().values
    if len(ratio) == 0:
        return 1.0
    misses = torch.zeros_like(FACTORS)
    for level in LEVELS:
        limits = FACTORS * _quantile(attempts, level)
        share = torch.searchsorted(ratio, limits.to(ratio), right=True).double().cpu() / len(ratio)
        misses += (share - level).square()
    return float(FACTORS[misses.argmin()])


def names_of_levels(levels: Sequence[float] = LEVELS) -> list[str]:
    """Return the ends of names of columns.

    Example:
        >>> names_of_levels()
        ['50', '80', '90', '95']
    """
    return [f"{100 * level:g}" for level in levels]


def _quantile(attempts: int, level: float) -> float:
    from scipy.stats import t  # which is slow to import

    return float(t.ppf((1 + level) / 2, attempts - 1)) * math.sqrt(1 + 1 / attempts)


def _estimated(x: Tensor, spread: Tensor, truth: Tensor) -> Tensor:
    return (spread > NO_SPREAD) | ((x - truth).abs() > HALF_A_BYTE)
