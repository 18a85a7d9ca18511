"""Folders and zip files, seen alike: a sorted list of image names and the bytes behind each.

Names are paths relative to the root with "/" between their parts, so a folder and the zip made from it list the same
names in the same order. Hidden files and the ``__MACOSX`` folder of macOS archives are ignored.
"""

import os
import unicodedata
import zipfile
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from rtil.data.images import EXTENSIONS
from rtil.errors import RunError, UserError


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
    """All images below a folder; links to folders are not followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = []
        for folder, _, files in os.walk(path, onerror=_cannot_list):
            relative = Path(folder).relative_to(path)
            found += [(relative / file).as_posix() for file in files]
        self.names = sorted(name for name in found if is_image(name))

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise RunError(f"cannot read image {str(self.path / name)!r}: {error.strerror}") from error

    def identity(self) -> tuple[object, ...]:
        """Return path, and (name, size, time) of every image."""
        stats = [(name, (self.path / name).stat()) for name in self.names]
        return (str(self.path.resolve()), *((name, s.st_size, s.st_mtime_ns) for name, s in stats))


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
        name, where = member.filename, f"zip {str(self.path)!r}"
        if not is_safe(name):
            raise RunError(f"{where} holds a member with an unsafe name, {name!r}; repack it with relative names")
        if member.flag_bits & 1:
            raise RunError(f"{where} holds an encrypted member, {name!r}; decrypt it first")
        if member.compress_type != zipfile.ZIP_STORED and not allow_compressed:
            command = f"rtil prepare {self.path} OUT.zip"
            raise RunError(f"{where} is compressed (member {name!r}), too slow to train from; repack it: {command}")

    def _open(self) -> zipfile.ZipFile:
        process = os.getpid()
        if self._handle is None or self._handle[0] != process:  # a forked file handle shares its position
            try:
                self._handle = process, zipfile.ZipFile(self.path)
            except zipfile.BadZipFile as error:
                raise RunError(f"{str(self.path)!r} is not a readable zip file: {error}; fetch it again") from error
            except OSError as error:
                raise RunError(f"cannot open {str(self.path)!r}: {error.strerror}") from error
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
            reason = " ".join(str(error).split())
            raise RunError(f"cannot read member {name!r} of zip {str(self.path)!r}: {reason}") from error

    def identity(self) -> tuple[object, ...]:
        """Return path, size and time of the zip file."""
        stat = self.path.stat()
        return str(self.path.resolve()), stat.st_size, stat.st_mtime_ns


def open_store(path: str | Path, allow_compressed: bool = False) -> Store:
    """Open a folder or a zip file that holds at least one image.

    Raises:
        UserError: The path is missing or is neither, the zip is damaged or compressed, or there is no image.
    """
    path = Path(path)
    if not os.path.exists(path):  # False also where one may not look
        raise RunError(f"data {str(path)!r} does not exist: give 'synthetic', a folder of images or a zip of images")
    store = Folder(path) if path.is_dir() else Zip(path, allow_compressed)
    if not store.names:
        raise RunError(f"no images found in {str(path)!r} (looked for {' '.join(EXTENSIONS)})")
    return store
