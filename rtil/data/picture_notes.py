"""What was done to pictures that their owner may not expect, told in one line for each kind, not for each picture."""

import threading
from collections.abc import Iterator

CMYK = "CMYK, converted without the colour profile"
FRAMES = "several frames, the first one taken"
SQUARED = "not square, the central square taken"
ENLARGED = "smaller than wanted, enlarged"


class PictureNotes:
    """Counts pictures by what was done to them; threads may share it.

    Example:
        >>> notes = PictureNotes()
        >>> for name in ("a.jpg", "b.jpg"):
        ...     notes.add(CMYK, name)
        >>> list(notes.lines())
        ["2 pictures (first: 'a.jpg'): CMYK, converted without the colour profile"]
    """

    def __init__(self) -> None:
        self._count: dict[str, int] = {}
        self._first: dict[str, str] = {}
        self._one_at_a_time = threading.Lock()

    def add(self, kind: str, name: str) -> None:
        """Note that something was done to a picture."""
        with self._one_at_a_time:
            self._count[kind] = self._count.get(kind, 0) + 1
            self._first[kind] = min(name, self._first.get(kind, name))

    def firsts(self) -> list[tuple[str, str]]:
        """Return each kind with the first picture by name."""
        return sorted(self._first.items())

    def lines(self) -> Iterator[str]:
        """Yield a line for each kind, in a fixed order."""
        for kind, first in self.firsts():
            count = self._count[kind]
            which = repr(first) if count == 1 else f"{count} pictures (first: {first!r})"
            yield f"{which}: {kind}"
