"""What all charts share: colours that colour-blind readers can tell apart, and files that depend on the data alone."""

from pathlib import Path

from matplotlib.figure import Figure

from rtil.files import atomic_path

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe & Ito 2008, strongest on white first; grey stands in for their yellow, which is too pale for lines."""

DOTS_PER_INCH = 150


def save_chart(figure: Figure, path: str | Path) -> None:
    """Write a figure to a PNG file, atomically; equal figures give equal bytes on one machine."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
