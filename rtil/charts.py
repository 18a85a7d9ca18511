"""What all charts share: colours that colour-blind readers can tell apart, and files that depend on the data alone."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from rtil.files import atomic_path

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
TOL_MUTED = ("#882255", "#44AA99", "#332288", "#999933", "#AA4499", "#DDCC77")
COLOURS = OKABE_ITO + TOL_MUTED
"""Okabe & Ito 2008, strongest on white first; grey stands in for their yellow, which is too pale for lines. Behind
them those of Tol's muted scheme (2021) that differ from them, for charts of more lines."""

DOTS_PER_INCH = 150
LEAST_TICK_SHARE = 0.08
"""Least distance of two labelled levels, as a share of the axis."""
EIGHT_BIT_ERROR = 1 / (12 * 255**2)
"""Squared error of rounding to 8 bits: an axis ends there, so that an exact result does not flatten all others."""


def apart(levels: Sequence[float], is_logarithmic: bool) -> list[float]:
    """Return those of rising levels that can be labelled without touching.

    Example:
        >>> apart([1, 10, 25, 50, 75, 100], is_logarithmic=True)
        [1, 10, 25, 50, 75]
    """
    at = np.log(levels) if is_logarithmic else np.array(levels)
    found = [0]
    for k in range(1, len(levels)):
        if at[k] - at[found[-1]] >= LEAST_TICK_SHARE * (at[-1] - at[0]):
            found.append(k)
    return [levels[k] for k in found]


def format_logarithmic(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2, 5 and their tenfolds, without ticks between."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def format_errors(axes: Axes) -> None:
    """Make the vertical axis one of squared errors of pixels in [0, 1]: logarithmic, from that of 8 bits on."""
    axes.set_yscale("log", nonpositive="mask")
    format_logarithmic(axes.yaxis)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], EIGHT_BIT_ERROR))


def save_chart(figure: Figure, path: str | Path) -> None:
    """Write a figure to a PNG or SVG file, atomically; equal figures give equal bytes on one machine."""
    ending = Path(path).suffix.removeprefix(".")
    nothing = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    with atomic_path(path) as temporary, mpl.rc_context({"svg.hashsalt": "rtil"}):
        figure.savefig(temporary, format=ending, dpi=DOTS_PER_INCH, metadata=nothing[ending])
