"""How many members a zip says it has, before Python makes an object of each: a few bytes of the file are enough.

The end of the central directory (APPNOTE 4.3.16, and 4.3.14 for zip64) tells their number and the directory's size.
"""

import os
import struct
from typing import BinaryIO

from rtil.budget import check_memory
from rtil.errors import RunError

END, END_BYTES = b"PK\x05\x06", 22
LOCATOR, LOCATOR_BYTES = b"PK\x06\x07", 20
END_64 = b"PK\x06\x06"
MOST_COMMENT = 2**16
MEMBER_BYTES, BYTES_PER_MEMBER = 46, 1000
"""In the directory at least, and in memory with a name of usual length."""


def check_directory(file: BinaryIO, name: str) -> None:
    """Tell the user when a zip has more members than there is memory for.

    Args:
        file: The zip; where it has no such end, Python says so later on.
        name: What messages call it.

    Raises:
        RunError: It has too many, or a directory larger than the file.
    """
    length = os.fstat(file.fileno()).st_size
    size = directory_bytes(file, length)
    if size > length:
        raise RunError(f"{name!r} is not a readable zip file: its directory is larger than the file; fetch it again")
    count = size // MEMBER_BYTES
    needed = size + BYTES_PER_MEMBER * count
    check_memory(needed, f"the {count:,} members of zip {name!r}", "divide it into several zips, or unpack it")


def directory_bytes(file: BinaryIO, length: int) -> int:
    """Return the size of the central directory as a zip of some length says; 0 where there is no end of one."""
    start = max(0, length - END_BYTES - MOST_COMMENT - LOCATOR_BYTES)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(END)
    if place < 0 or len(tail) < place + END_BYTES:
        return 0
    size: int = struct.unpack("<L", tail[place + 12 : place + 16])[0]
    locator = tail[max(0, place - LOCATOR_BYTES) : place]
    if locator[:4] == LOCATOR:
        file.seek(min(length, struct.unpack("<Q", locator[8:16])[0]))
        end = file.read(56)
        if end[:4] == END_64 and len(end) == 56:
            size = struct.unpack("<Q", end[40:48])[0]
    return size
