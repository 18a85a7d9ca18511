"""What all charts share: colours that colour-blind readers can tell apart, and files that depend on the data alone."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from rtil.files import atomic_path

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
TOL_MUTED = ("#882255", "#44AA99", "#332288", "#999933", "#AA4499", "#DDCC77")
COLOURS = OKABE_ITO + TOL_MUTED
"""Okabe & Ito 2008, strongest on white first; grey stands in for their yellow, which is too pale for lines. Behind
them those of Tol's muted scheme (2021) that differ from them, for charts of more lines."""

DOTS_PER_INCH = 150


def save_chart(figure: Figure, path: str | Path) -> None:
    """Write a figure to a PNG or SVG file, atomically; equal figures give equal bytes on one machine."""
    ending = Path(path).suffix.removeprefix(".")
    nothing = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    with atomic_path(path) as temporary, mpl.rc_context({"svg.hashsalt": "rtil"}):
        figure.savefig(temporary, format=ending, dpi=DOTS_PER_INCH, metadata=nothing[ending])
