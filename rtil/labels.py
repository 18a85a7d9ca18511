"""Names that can stand in the names of files, on every system."""

import re

MOST_BYTES = 150
"""File systems take names of 255 bytes."""


def as_label(name: str) -> str:
    """Return a name without what file names had better not have.

    Example:
        >>> as_label("my face/1.png")
        'my_face_1.png'
    """
    return re.sub(r"[^\w.+-]+", "_", name).strip(".")


def is_label(text: str) -> bool:
    """Return whether text can stand in the name of a file.

    Example:
        >>> [is_label(text) for text in ("face-1", "", "../face", "a" * 200)]
        [True, False, False, False]
    """
    return 0 < len(text.encode(errors="replace")) <= MOST_BYTES and as_label(text) == text
