"""Folders and zip files, seen alike: a sorted list of image names and the bytes behind each.

Names are paths relative to the root with "/" between their parts, so a folder and the zip made from it list the same
names in the same order. Hidden files and the ``__MACOSX`` folder of macOS archives are ignored.
"""

import os
import unicodedata
import warnings
import zipfile
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from rtil.data.images import EXTENSIONS
from rtil.data.zip_directory import check_directory
from rtil.errors import Notice, RunError, UserError, in_short
from rtil.reading import MOST_BYTES, opened, read_file, unreadable

READ_ALIKE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How members may be packed; others cannot be unpacked bit by bit, so that a few bytes fill the memory."""
SMALL_BYTES, MOST_RATIO = 2**24, 100
"""A member of more than 16 MiB is at most a hundred times what it takes in the zip: pictures are compressed already."""


def is_image(name: str) -> bool:
    """Tell whether a relative path names a visible image file.

    Example:
        >>> [is_image(name) for name in ("a/b.JPG", "a/.b.jpg", "__MACOSX/b.jpg", "notes.txt")]
        [True, False, False, False]
    """
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in name.split("/"))
    return not hidden and name.lower().endswith(EXTENSIONS)


def is_safe(name: str) -> bool:
    r"""Tell whether a relative path stays inside its root on every system and can be stored in a zip.

    Example:
        >>> [is_safe(name) for name in ("a/b.png", "../b.png", "/b.png", "a\\b.png")]
        [True, False, False, False]
    """
    escapes = name.startswith("/") or ".." in name.split("/") or "\\" in name
    odd = not name.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    return not escapes and not odd  # odd: new lines, bytes


class Store(ABC):
    """Image files by name.

    Attributes:
        path: The folder or zip file.
        names: Relative paths of all images, sorted.
    """

    path: Path
    names: list[str]

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of one file, or raise a UserError that names it."""

    @abstractmethod
    def identity(self) -> tuple[object, ...]:
        """Return what changes when the content changes: paths, sizes and modification times."""


class Folder(Store):
    """All images below a folder; links to folders are not followed, and what is no file is left out with a notice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = []
        for folder, _, files in os.walk(path, onerror=_cannot_list):
            relative = Path(folder).relative_to(path)
            found += [(relative / file).as_posix() for file in files]
        images = sorted(name for name in found if is_image(name))
        self.names = [name for name in images if not _is_special(path / name)]
        if len(self.names) < len(images):
            first = next(name for name in images if name not in self.names)
            count = len(images) - len(self.names)
            what = "a pipe, socket or device" if count == 1 else f"the first of {count} pipes, sockets or devices"
            warnings.warn(f"{str(path / first)!r} is {what}: no image, left out", Notice, stacklevel=2)

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        return read_file(self.path / name, "image")

    def identity(self) -> tuple[object, ...]:
        """Return path, and (name, size, time) of every image."""
        return (str(self.path.resolve()), *map(self._stamp, self.names))

    def _stamp(self, name: str) -> tuple[str, int, int]:
        try:
            stat = (self.path / name).stat()
        except OSError as error:
            raise unreadable(self.path / name, "image", error) from error
        return name, stat.st_size, stat.st_mtime_ns


def _is_special(path: Path) -> bool:
    """Return whether there is something that is neither a file nor missing: what is missing is told when it is read."""
    return path.exists() and not path.is_file()


def _cannot_list(error: OSError) -> NoReturn:
    raise RunError(f"cannot list folder {error.filename!r}: {error.strerror}") from error


class Zip(Store):
    """All images in a zip file, opened once per process: safe to pickle and to fork.

    Args:
        path: The zip file.
        allow_compressed: Accept compressed members, which are slow to read at random.
    """

    def __init__(self, path: Path, allow_compressed: bool = False) -> None:
        self.path = path
        self._handle: tuple[int, zipfile.ZipFile] | None = None
        members = [member for member in self._open().infolist() if not member.is_dir() and is_image(member.filename)]
        self.names = sorted(member.filename for member in members)
        for member in members:
            self._check(member, allow_compressed)
        for name, following in pairwise(self.names):
            if name == following:
                raise RunError(f"zip {str(path)!r} holds two members named {name!r}; make the names unique")

    def _check(self, member: zipfile.ZipInfo, allow_compressed: bool) -> None:
        name, where, size = member.filename, f"zip {str(self.path)!r}", member.file_size
        if not is_safe(name):
            raise RunError(f"{where} holds a member with an unsafe name, {name!r}; repack it with relative names")
        if member.flag_bits & 1:
            raise RunError(f"{where} holds an encrypted member, {name!r}; decrypt it first")
        if member.compress_type not in READ_ALIKE:
            kind = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA"}.get(member.compress_type, "another method")
            raise RunError(f"{where} is compressed by {kind} (member {name!r}): repack it, stored or deflated")
        if size > MOST_BYTES or (size > SMALL_BYTES and size > MOST_RATIO * member.compress_size):
            raise RunError(
                f"{where} holds a member of {size:,} bytes in {member.compress_size:,}, {name!r}: at most "
                f"{MOST_BYTES:,}, and {MOST_RATIO} times what it takes, are valid; leave it out"
            )
        if member.compress_type != zipfile.ZIP_STORED and not allow_compressed:
            command = f"rtil prepare {self.path} OUT.zip"
            raise RunError(f"{where} is compressed (member {name!r}), too slow to train from; repack it: {command}")

    def _open(self) -> zipfile.ZipFile:
        process = os.getpid()
        if self._handle is None or self._handle[0] != process:  # a forked file handle shares its position
            with opened(self.path, "zip") as file:
                check_directory(file, str(self.path))
            try:
                self._handle = process, zipfile.ZipFile(self.path)
            except OSError as error:
                raise unreadable(self.path, "zip", error) from error
            except Exception as error:  # damage shows as BadZipFile, but also as struct.error, UnicodeDecodeError, ...
                raise RunError(
                    f"{str(self.path)!r} is not a readable zip file: {in_short(error)}; fetch it again"
                ) from error
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def read(self, name: str) -> bytes:
        """Return the content of one member."""
        try:
            return self._open().read(name)
        except UserError:
            raise
        except Exception as error:  # damage shows as BadZipFile, OSError, EOFError, zlib.error, NotImplementedError
            raise RunError(f"cannot read member {name!r} of zip {str(self.path)!r}: {in_short(error)}") from error

    def identity(self) -> tuple[object, ...]:
        """Return path, size and time of the zip file."""
        try:
            stat = self.path.stat()
        except OSError as error:
            raise unreadable(self.path, "zip", error) from error
        return str(self.path.resolve()), stat.st_size, stat.st_mtime_ns


def open_store(path: str | Path, allow_compressed: bool = False) -> Store:
    """Open a folder or a zip file that holds at least one image.

    Raises:
        UserError: The path is missing or is neither, the zip is damaged or compressed, or there is no image.
    """
    path = Path(path)
    if path.is_symlink() and not os.path.exists(path):
        raise RunError(f"data {str(path)!r} is a link that leads nowhere: give a folder of images or a zip of images")
    if not os.path.exists(path):  # False also where one may not look
        raise RunError(f"data {str(path)!r} does not exist: give 'synthetic', a folder of images or a zip of images")
    store = Folder(path) if path.is_dir() else Zip(path, allow_compressed)
    if not store.names:
        raise RunError(f"no images found in {str(path)!r} (looked for {' '.join(EXTENSIONS)})")
    return store
