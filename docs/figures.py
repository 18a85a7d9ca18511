"""Compose the README's picture of two others: ``python docs/figures.py SAMPLES.png RECONSTRUCTIONS.png OUT.png``."""

import sys
from pathlib import Path

from PIL import Image

HEIGHT_PIXELS = 420
GAP_PIXELS = 24


def beside(left: Path, right: Path, out: Path) -> None:
    """Write two pictures side by side at one height.

    Args:
        left: The grid of samples, enlarged pixel by pixel.
        right: The grid of reconstructions.
        out: PNG file.
    """
    samples, grid = (Image.open(path).convert("RGB") for path in (left, right))
    factor = max(1, HEIGHT_PIXELS // samples.height)
    samples = samples.resize((samples.width * factor, samples.height * factor), Image.Resampling.NEAREST)
    grid = grid.resize((round(grid.width * samples.height / grid.height), samples.height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (samples.width + GAP_PIXELS + grid.width, samples.height), "white")
    canvas.paste(samples, (0, 0))
    canvas.paste(grid, (samples.width + GAP_PIXELS, 0))
    canvas.save(out, optimize=True)


if __name__ == "__main__":
    beside(*map(Path, sys.argv[1:]))
