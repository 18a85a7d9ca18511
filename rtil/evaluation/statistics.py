"""Means and paired differences over test images, with bootstrap intervals of 95 %.

Two checkpoints are compared on the *same* images: the differences image by image vary far less than the values
themselves. Intervals are BCa bootstrap intervals of the mean (Efron 1987, by scipy) with 9999 resamples of the images;
they speak of other images of the same kind, not of other training seeds.

Values that are not finite: an image with NaN on either side, or infinite on one side only, has no difference; it is
left out of mean and interval, and counted in ``left_out``. Two equal infinities (both pictures perfect) differ by 0.
The win rate counts every pair without NaN, infinities too.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from rtil.seeds import derive_seed

RESAMPLES = 9999
CONFIDENCE = 0.95
BOOTSTRAPS: tuple[Literal["BCa", "percentile"], ...] = ("BCa", "percentile")
"""Kinds of intervals, the second where the first, whose correction some tiny samples leave undefined, has none."""

Values = Mapping[tuple[str, int], float]
"""One number by (image, seed)."""


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


def by_image(values: Values) -> list[float]:
    """Average the seeds of each image, which are no independent pictures; images in sorted order."""
    images: dict[str, list[float]] = {}
    for image, seed in sorted(values):
        images.setdefault(image, []).append(values[image, seed])
    return [float(np.mean(seeds)) for seeds in images.values()]


def mean_interval(values: ArrayLike) -> Interval:
    """Return the mean of the finite values with its bootstrap interval.

    Args:
        values: One number per image.

    Example:
        >>> mean_interval([21.0, 21.0, float("nan")])
        Interval(mean=21.0, low=21.0, high=21.0, n=2, left_out=1)
    """
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    mean = float(finite.mean()) if finite.size else math.nan
    low, high = _bootstrap(finite) if finite.size > 1 else (math.nan, math.nan)
    return Interval(mean, low, high, finite.size, array.size - finite.size)


def paired_difference(a: ArrayLike, b: ArrayLike, higher_is_better: bool = True) -> Difference:
    """Return the mean of b - a with its bootstrap interval, and how often b wins.

    Args:
        a: One number per image.
        b: The same images in the same order.
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
    known = ~(np.isnan(first) | np.isnan(second))
    wins = (second > first) if higher_is_better else (second < first)
    win_rate = float((wins + 0.5 * equal)[known].mean()) if known.any() else math.nan
    return Difference(**vars(mean_interval(differences)), win_rate=win_rate)


def _bootstrap(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the interval of two or more finite values."""
    if np.ptp(values) <= 1e-12 * max(1.0, np.abs(values).max()):  # no variation: BCa would be NaN
        return float(values.mean()), float(values.mean())
    for kind in BOOTSTRAPS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
            interval = scipy.stats.bootstrap(
                [values],
                np.mean,
                n_resamples=RESAMPLES,
                confidence_level=CONFIDENCE,
                method=kind,
                rng=np.random.default_rng(derive_seed(0, "bootstrap")),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            break
    return float(interval.low), float(interval.high)
