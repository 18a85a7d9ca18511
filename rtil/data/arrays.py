"""The door of .npy files: numbers of a known type, as many as the file holds, or one line that says what is wrong.

The header (NEP 1) is read first: what it claims must be there before memory is set aside for it.
"""

import math
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rtil.budget import check_memory
from rtil.errors import RunError, in_short
from rtil.reading import opened

NUMBERS = "biuf"
"""Kinds of types that are numbers: bool, whole, and floating point."""
MOST_ITEM_BYTES = 8
ZIP = b"PK\x03\x04"
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0, (3, 0): npy.read_array_header_2_0}
ADVICE = "save one array of numbers by numpy.save"


def read_array(path: Path) -> NDArray[np.generic]:
    """Return the array in an .npy file, in this machine's byte order.

    Args:
        path: The file.

    Raises:
        RunError: There is none, it is an .npz archive or something else, holds objects, text or complex numbers or
            none at all, or less or more than its header claims.
    """
    with opened(path, "array") as file:
        start = file.read(len(npy.MAGIC_PREFIX))
        if not start:
            raise RunError(f"array {str(path)!r} is empty: {ADVICE}")
        if start.startswith(ZIP):
            raise RunError(f"array {str(path)!r} is an .npz archive of several arrays: {ADVICE}")
        if start != npy.MAGIC_PREFIX:
            raise RunError(f"array {str(path)!r} is no .npy file: {ADVICE}")
        file.seek(0)
        try:
            shape, is_fortran, dtype = HEADERS[npy.read_magic(file)](file)
        except Exception as error:  # it is parsed as Python: SyntaxError, RecursionError, KeyError, ...
            raise RunError(f"array {str(path)!r} has a damaged header ({in_short(error)}): {ADVICE}") from error
        count = math.prod(shape)
        if dtype.kind not in NUMBERS or dtype.itemsize > MOST_ITEM_BYTES:
            raise RunError(
                f"array {str(path)!r} holds {dtype.name}, valid are real numbers of at most 64 bit: {ADVICE}"
            )
        if count == 0 or min(shape, default=1) < 0:
            raise RunError(f"array {str(path)!r} has shape {list(shape)} and holds nothing: {ADVICE}")
        place, end = file.tell(), file.seek(0, 2)
        if end - place != count * dtype.itemsize:
            raise RunError(
                f"array {str(path)!r} claims {dtype.name} {list(shape)}, {count * dtype.itemsize:,} bytes, but holds "
                f"{end - place:,}: fetch it again"
            )
        check_memory(3 * (end - place), f"array {str(path)!r}", "divide it into several files")
        file.seek(place)
        flat = np.frombuffer(bytearray(file.read(end - place)), dtype)
    array = flat.reshape(shape, order="F" if is_fortran else "C")
    return np.ascontiguousarray(array, dtype.newbyteorder("="))
