"""Means and paired differences over test images, with bootstrap intervals.

Two checkpoints are compared on the *same* images: the differences image by image vary far less than the values
themselves. Intervals are BCa bootstrap intervals of the mean (Efron 1987, by scipy) with 9999 resamples of the images;
they speak of other images of the same kind, not of other training seeds.

Values that are not finite: an image with NaN on either side, or infinite on one side only, has no difference; it is
left out of mean and interval, and counted in ``left_out``. Two equal infinities (both pictures perfect) differ by 0.
The win rate counts every pair without NaN, infinities too.
"""

import functools
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from rtil.seeds import derive_seed

RESAMPLES = 9999
METHODS: tuple[Literal["BCa", "percentile"], ...] = ("BCa", "percentile")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: NaN when there is no finite value.
        low: Lower end; NaN below two values, the mean itself when all values agree.
        high: Upper end, likewise.
        n: Finite values used.
        left_out: Values that were not finite.
    """

    mean: float
    low: float
    high: float
    n: int
    left_out: int


@dataclass(frozen=True)
class Difference(Interval):
    """A mean paired difference b - a with its confidence interval.

    Attributes:
        win_rate: Fraction of the pairs without NaN in which b is the better one; ties count one half.
    """

    win_rate: float


def mean_interval(values: ArrayLike, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return the mean of the finite values with its bootstrap interval.

    Args:
        values: One number per image.
        seed: Root seed of the resampling.
        confidence: Coverage of the interval, between 0 and 1.

    Example:
        >>> mean_interval([21.0, 21.0, float("nan")])
        Interval(mean=21.0, low=21.0, high=21.0, n=2, left_out=1)
    """
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    mean, low, high = _bootstrap_mean(finite, seed, confidence)
    return Interval(mean, low, high, finite.size, array.size - finite.size)


def paired_difference(
    a: ArrayLike, b: ArrayLike, seed: int = 0, confidence: float = 0.95, higher_is_better: bool = True
) -> Difference:
    """Return the mean of b - a with its bootstrap interval, and how often b wins.

    Args:
        a: One number per image.
        b: The same images in the same order.
        seed: Root seed of the resampling.
        confidence: Coverage of the interval, between 0 and 1.
        higher_is_better: False where a smaller value wins (LPIPS).

    Raises:
        ValueError: a and b have different lengths.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"paired values must be two lists of one length, got shapes {first.shape} and {second.shape}")
    equal = first == second
    with np.errstate(invalid="ignore"):
        differences = np.where(equal, 0.0, second - first)
    finite = differences[np.isfinite(differences)]
    mean, low, high = _bootstrap_mean(finite, seed, confidence)
    known = ~(np.isnan(first) | np.isnan(second))
    wins = (second > first) if higher_is_better else (second < first)
    win_rate = float((wins + 0.5 * equal)[known].mean()) if known.any() else math.nan
    return Difference(mean, low, high, finite.size, first.size - finite.size, win_rate)


def _bootstrap_mean(values: Array, seed: int, confidence: float) -> tuple[float, float, float]:
    """Return mean, low and high; kept, since the tables of one evaluation show the same numbers again and again."""
    return _bootstrap(tuple(values.tolist()), seed, confidence, RESAMPLES)


@functools.lru_cache(maxsize=4096)
def _bootstrap(values: tuple[float, ...], seed: int, confidence: float, resamples: int) -> tuple[float, float, float]:
    array = np.array(values)
    if array.size == 0:
        return math.nan, math.nan, math.nan
    mean = float(array.mean())
    if array.size == 1:
        return mean, math.nan, math.nan
    if np.ptp(array) <= 1e-12 * max(1.0, np.abs(array).max()):  # no variation: BCa would be NaN
        return mean, mean, mean
    # BCa's correction is undefined for some tiny samples.
    for method in METHODS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
            interval = scipy.stats.bootstrap(
                [array],
                _mean,
                n_resamples=resamples,
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(derive_seed(seed, "bootstrap")),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            break
    return mean, float(interval.low), float(interval.high)


def _mean(values: Array, axis: int = -1) -> Any:
    return values.mean(axis)
