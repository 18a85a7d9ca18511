"""Means, paired differences and ratios over test images, with bootstrap intervals of 95 %.

Two checkpoints are compared on the *same* images: the differences image by image vary far less than the values
themselves. With one seed, intervals are BCa bootstrap intervals (Efron 1987, by scipy) with 9999 resamples of the
images; they speak of other images of the same kind, not of other seeds. With several seeds (operators and starts, or
trainings) they speak of other seeds too: see :mod:`rtil.evaluation.crossed`. Tests are Student's, of the same standard
error; :mod:`rtil.evaluation.families` corrects them where there are many.

Values that are not finite: an image with NaN on either side, or infinite on one side only, has no difference; it is
left out of mean and interval, and counted in ``left_out``. Two equal infinities (both pictures perfect) differ by 0.
The win rate counts every pair without NaN, infinities too.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from rtil.evaluation.crossed import crossed_interval, crossed_ratio_interval, spread
from rtil.evaluation.families import detectable, p_value
from rtil.seeds import derive_seed

RESAMPLES = 9999
CONFIDENCE = 0.95
LEAST_SHOWN = 8
"""Images below which no interval is shown: it would hold the truth far less often than it says."""
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
        n: Images used, those that are finite with every seed.
        left_out: Images that are not.
    """

    mean: float
    low: float
    high: float
    n: int
    left_out: int

    @property
    def is_shown(self) -> bool:
        """Whether there are images enough for an interval that one may show."""
        return self.n >= LEAST_SHOWN and math.isfinite(self.low)


@dataclass(frozen=True)
class Difference(Interval):
    """A mean paired difference b - a with its confidence interval.

    Attributes:
        win_rate: Fraction of the pairs without NaN in which b is the better one; ties count one half.
        error: Standard error of the mean; NaN below two images.
        freedom: Its degrees of freedom.
    """

    win_rate: float
    error: float
    freedom: float

    @property
    def p_value(self) -> float:
        """Of Student's two-sided test that the mean is 0; NaN below two images."""
        return p_value(self.mean, self.error, self.freedom)

    @property
    def detectable(self) -> float:
        """The mean that such a comparison would find in four of five times: smaller ones it may well miss."""
        return detectable(self.error, self.freedom)


def by_image(values: Values) -> list[float]:
    """Average the seeds of each image, which are no independent pictures; images in sorted order."""
    images: dict[str, list[float]] = {}
    for image, seed in sorted(values):
        images.setdefault(image, []).append(values[image, seed])
    return [float(np.mean(seeds)) for seeds in images.values()]


def by_seed(values: Values) -> NDArray[np.float64]:
    """Return a table [S, N] of seeds and images, both in sorted order.

    Where an image lacks a seed, as while an evaluation is under way, the seeds of each image are averaged: [1, N].
    """
    seeds, images = sorted({seed for _, seed in values}), sorted({image for image, _ in values})
    if len(values) < len(seeds) * len(images):
        return np.array([by_image(values)])
    return np.array([[values[image, seed] for image in images] for seed in seeds])


def mean_interval(values: ArrayLike) -> Interval:
    """Return the mean of the finite values with its bootstrap interval.

    Args:
        values: One number per image, or [S, N] for S seeds of each; an image counts if it is finite with all of them.

    Example:
        >>> mean_interval([21.0, 21.0, float("nan")])
        Interval(mean=21.0, low=21.0, high=21.0, n=2, left_out=1)
    """
    table = np.atleast_2d(np.asarray(values, np.float64))
    finite = table[:, np.isfinite(table).all(0)]
    n = finite.shape[1]
    mean = float(finite.mean()) if finite.size else math.nan
    low, high = _bootstrap(finite) if n > 1 else (math.nan, math.nan)
    return Interval(mean, low, high, n, table.shape[1] - n)


def paired_difference(a: ArrayLike, b: ArrayLike, higher_is_better: bool = True) -> Difference:
    """Return the mean of b - a with its bootstrap interval, and how often b wins.

    Args:
        a: One number per image, or [S, N] for S seeds of each.
        b: The same images and seeds in the same order.
        higher_is_better: False where a smaller value wins (LPIPS).

    Raises:
        ValueError: a and b have different shapes.
    """
    first, second = _pair(a, b)
    equal = first == second
    with np.errstate(invalid="ignore"):
        differences = np.where(equal, 0.0, second - first)
    known = ~(np.isnan(first) | np.isnan(second))
    wins = (second > first) if higher_is_better else (second < first)
    win_rate = float((wins + 0.5 * equal)[known].mean()) if known.any() else math.nan
    finite = differences[:, np.isfinite(differences).all(0)]
    return Difference(**vars(mean_interval(differences)), win_rate=win_rate, **spread(finite)._asdict())


def mean_ratio(a: ArrayLike, b: ArrayLike) -> Interval:
    """Return mean(a) / mean(b) of errors with its interval: 2 says that b has half of the error ("2x", ILO).

    Args:
        a: One error per image, or [S, N] for S seeds of each; images that are not finite and above 0 are left out.
        b: The same images and seeds in the same order.

    Raises:
        ValueError: a and b have different shapes.

    Example:
        >>> mean_ratio([0.2, 0.4], [0.1, 0.2])
        Interval(mean=2.0, low=2.0, high=2.0, n=2, left_out=0)
    """
    first, second = _pair(a, b)
    good = np.asarray((np.isfinite(first) & np.isfinite(second) & (first > 0) & (second > 0)).all(0))
    first, second = first[:, good], second[:, good]
    n, left_out = first.shape[1], len(good) - first.shape[1]
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, left_out)
    ratio = float(first.mean() / second.mean())
    low, high = (math.log(ratio), math.log(ratio)) if _is_constant(first / second) else _ratio_bootstrap(first, second)
    return Interval(ratio, *((math.exp(low), math.exp(high)) if n > 1 else (math.nan, math.nan)), n, left_out)


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim not in (1, 2):
        shapes = f"{first.shape} and {second.shape}"
        raise ValueError(f"paired values must be two lists or tables of one shape, one length: got shapes {shapes}")
    return np.atleast_2d(first), np.atleast_2d(second)


def _is_constant(values: NDArray[np.float64]) -> bool:
    return bool(np.ptp(values) <= 1e-12 * max(1.0, np.abs(values).max()))


def _rng() -> np.random.Generator:
    return np.random.default_rng(derive_seed(0, "bootstrap"))


def _bootstrap(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the interval of the mean of [S, N] finite values, N >= 2."""
    if _is_constant(values):  # no variation: BCa would be NaN
        return float(values.mean()), float(values.mean())
    if len(values) > 1:
        return crossed_interval(values, RESAMPLES, CONFIDENCE, _rng())
    return _of_scipy((values[0],), np.mean)


def _ratio_bootstrap(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the interval of log(mean / mean) of [S, N] errors; NaN for one image."""
    if first.shape[1] < 2:
        return math.nan, math.nan
    if len(first) > 1:
        return crossed_ratio_interval(first, second, RESAMPLES, CONFIDENCE, _rng())

    def log_ratio(a: NDArray[np.float64], b: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.log(np.mean(a, axis=axis) / np.mean(b, axis=axis))

    return _of_scipy((first[0], second[0]), log_ratio)


def _of_scipy(samples: tuple[NDArray[np.float64], ...], statistic: Callable[..., Any]) -> tuple[float, float]:
    for kind in BOOTSTRAPS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
            interval = scipy.stats.bootstrap(
                samples,
                statistic,
                paired=len(samples) > 1,
                n_resamples=RESAMPLES,
                confidence_level=CONFIDENCE,
                method=kind,
                rng=_rng(),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            break
    return float(interval.low), float(interval.high)
