"""How far an inversion is: a bar with measurement error and time left, on a terminal only."""

import sys
import time
from collections.abc import Sequence

from torch import Tensor
from tqdm import tqdm

from rtil.inverse.operators import Operator
from rtil.inverse.problem import Callback

SECONDS_BETWEEN_LOOKS = 0.5
"""A look at the error measures the pictures once more and, on a GPU, waits for it."""
LAYOUT = "{desc}{percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left{postfix}"


class Progress:
    """A bar over the iterates of all pictures; where stderr is no terminal, nothing.

    Args:
        iterates: Of all pictures together, at most; None where that is not known.
        pictures: How many there are.
    """

    def __init__(self, iterates: int | None, pictures: int) -> None:
        self.pictures, self.iterates, self.done = pictures, iterates, 0
        self._looked = 0.0
        out = sys.stderr
        self._bar = tqdm(total=iterates, bar_format=LAYOUT, leave=False, file=out) if out.isatty() else None

    def watching(self, operator: Operator, y: Tensor) -> list[Callback]:
        """Return what moves the bar while measurements [N, ...] are inverted: one callback, or none."""
        bar = self._bar
        if bar is None:
            return []

        def look(k: int, step: int, x: Tensor) -> None:
            bar.update(len(x))
            if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
                error = operator.error(x, y).mean().item()
                bar.set_postfix_str(f"error {error:.3g}, round {k}", refresh=False)
                bar.refresh()
                self._looked = time.monotonic()

        return [look]

    def finish(self, pictures: int) -> None:
        """Take note that so many more pictures are done, however few iterates they took."""
        self.done += pictures
        if self._bar is not None and self.iterates is not None:
            self._bar.n = self.iterates * self.done // self.pictures
            self._bar.refresh()

    def say(self, lines: Sequence[str]) -> None:
        """Print lines above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(*lines, sep="\n", flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.close()
