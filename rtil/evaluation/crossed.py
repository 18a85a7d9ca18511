"""Several seeds, each on the same pictures: how far the mean is from what other seeds and other pictures would give.

A value v[s, i] of seed s and picture i is the sum of what is common, what is the seed's, what is the picture's, and a
rest. Seeds are operators and starts, or trainings; there are few of them, so that their share of the error is known by
few degrees of freedom. Two ways are joined:

* the two-level bootstrap of Owen (2007, "The pigeonhole bootstrap"): seeds and pictures are drawn with replacement,
  each on their own, and the mean is taken of what they cross in. It gives the shape of the interval;
* the analysis of variance of the same table, with Satterthwaite's degrees of freedom, gives its width: the bootstrap's
  quantiles are stretched to that standard error and to Student's t. With two or three seeds the quantiles alone would
  be far too near: two seeds have three different means.

One seed leaves the ordinary standard error with n - 1 degrees of freedom.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

Table = NDArray[np.float64]
"""Values [S, N] of seeds and pictures."""


class Spread(NamedTuple):
    """The standard error of a mean, and how many degrees of freedom it has."""

    error: float
    freedom: float


def spread(values: Table) -> Spread:
    """Return the standard error of the mean of a table, for other seeds and pictures of the same kind.

    Args:
        values: [S, N], finite; S >= 1.

    Example:
        >>> spread(np.array([[1.0, 2.0, 3.0]]))
        Spread(error=0.5773502691896258, freedom=2)
    """
    S, N = values.shape
    if N < 2:
        return Spread(math.nan, math.nan)
    if S == 1:
        return Spread(float(values.std(ddof=1) / math.sqrt(N)), N - 1)
    seeds, pictures, all_of_it = values.mean(1), values.mean(0), values.mean()
    rest = values - seeds[:, None] - pictures[None] + all_of_it
    of_rest = float((rest**2).sum() / ((S - 1) * (N - 1)))
    of_seeds = max(float(N * seeds.var(ddof=1)), of_rest)  # no source of variance is less than none
    of_pictures = max(float(S * pictures.var(ddof=1)), of_rest)
    total = of_seeds + of_pictures - of_rest
    if total <= 0:
        return Spread(0.0, N - 1)
    parts = of_seeds**2 / (S - 1) + of_pictures**2 / (N - 1) + of_rest**2 / ((S - 1) * (N - 1))
    return Spread(math.sqrt(total / (S * N)), total**2 / parts)


def stretched_interval(
    estimate: float, drawn: NDArray[np.float64], wanted: Spread, confidence: float
) -> tuple[float, float]:
    """Return the quantiles of a bootstrap, stretched to a standard error and to Student's t.

    Args:
        estimate: What was found.
        drawn: What the resamples give.
        wanted: The standard error of the estimate.
        confidence: Of the interval.
    """
    tail = (1 - confidence) / 2
    drawn_error = float(drawn.std())
    if drawn_error == 0 or wanted.error == 0:
        return estimate, estimate
    ratio = float(scipy.stats.t.isf(tail, wanted.freedom) / scipy.stats.norm.isf(tail))
    low, high = np.quantile(drawn, (tail, 1 - tail)) - estimate
    stretch = ratio * wanted.error / drawn_error
    return estimate + stretch * float(low), estimate + stretch * float(high)


def crossed_means(rng: np.random.Generator, resamples: int, *tables: Table) -> list[NDArray[np.float64]]:
    """Return the mean of each table in every resample, [R]; all tables see the same seeds and pictures drawn.

    Args:
        rng: Draws.
        resamples: R.
        tables: [S, N] each.
    """
    S, N = tables[0].shape
    seeds = rng.multinomial(S, [1 / S] * S, size=resamples) / S
    pictures = rng.multinomial(N, [1 / N] * N, size=resamples) / N
    return [((seeds @ table) * pictures).sum(1) for table in tables]


def crossed_interval(values: Table, resamples: int, confidence: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return the interval of the mean of a table of two or more seeds.

    Args:
        values: [S, N], finite.
        resamples: Of seeds and pictures.
        confidence: Of the interval.
        rng: Draws them.
    """
    (drawn,) = crossed_means(rng, resamples, values)
    return stretched_interval(float(values.mean()), drawn, spread(values), confidence)


def crossed_ratio_interval(
    numerator: Table, denominator: Table, resamples: int, confidence: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the interval of the logarithm of the ratio of two tables' means.

    Args:
        numerator: [S, N], above 0.
        denominator: The same seeds and pictures.
        resamples: Of seeds and pictures.
        confidence: Of the interval.
        rng: Draws them.
    """
    above, below = crossed_means(rng, resamples, numerator, denominator)
    estimate = float(np.log(numerator.mean() / denominator.mean()))
    linear = numerator / numerator.mean() - denominator / denominator.mean()  # the delta method's values
    return stretched_interval(estimate, np.log(above / below), spread(linear), confidence)
