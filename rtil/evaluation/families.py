"""Many tests at once, and what a test of few pictures can find.

Of twenty cells without any difference one is expected below p = 0.05. Holm (1979) orders the p values of the whole
family and takes the k-th smallest of m times (m - k + 1), none smaller than the one before: the chance that any of the
true zeros is called a difference stays below 5 %, whatever depends on what.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.stats

LEVEL, POWER = 0.05, 0.8
"""Of two-sided tests; how often a test shall find what is there."""


def p_value(mean: float, error: float, freedom: float) -> float:
    """Return the p of Student's two-sided test that a mean is 0; NaN where the standard error is not known.

    Example:
        >>> round(p_value(1.0, 0.5, 10), 4)
        0.0734
    """
    if not (math.isfinite(mean) and math.isfinite(error)):
        return math.nan
    if error == 0:
        return float(mean == 0)
    return float(2 * scipy.stats.t.sf(abs(mean / error), freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values of a family with Holm's correction; those that are NaN are no members and stay so.

    Example:
        >>> holm([0.01, 0.04, 0.03, float("nan")])
        [0.03, 0.06, 0.06, nan]
    """
    p = np.asarray(p_values, np.float64)
    found = np.full(p.shape, math.nan)
    order = [int(i) for i in np.argsort(p, kind="stable") if not math.isnan(p[i])]
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(p[index])))
        found[index] = largest
    return [float(value) for value in found]


def detectable(error: float, freedom: float, level: float = LEVEL, power: float = POWER) -> float:
    """Return the mean that Student's two-sided test finds with this power, given its standard error.

    Args:
        error: Standard error of the mean.
        freedom: Its degrees of freedom.
        level: Of the test.
        power: How often it shall find it.

    Example:
        >>> round(detectable(1.0, 1e6), 2)
        2.8
    """
    if not (math.isfinite(error) and math.isfinite(freedom)):
        return math.nan
    limit = float(scipy.stats.t.isf(level / 2, freedom))

    def missing(shift: float) -> float:
        return float(scipy.stats.nct.sf(limit, freedom, shift)) - power  # the other tail is less than rounding

    return error * float(scipy.optimize.brentq(missing, 0.0, 2 * limit + 2, xtol=1e-6))
