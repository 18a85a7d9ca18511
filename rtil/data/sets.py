"""Opening data by name: the built-in synthetic faces, or pictures from a folder or an uncompressed zip."""

import hashlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import get_args

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from rtil.data.base import ImageDataset, Split
from rtil.data.images import fit, note_fit, read_image
from rtil.data.picture_notes import PictureNotes
from rtil.data.stores import Store, open_store
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.errors import Notice, RunError, unknown

VALIDATION_FRACTION = 0.05
MAX_VALIDATION_IMAGES = 1000


def open_dataset(data: str, resolution: int, split: Split) -> ImageDataset:
    """Open one split of a data set.

    Args:
        data: ``"synthetic"``, or the path of a folder or an uncompressed zip of pictures.
        resolution: Side R in pixels to which pictures are cropped and resized.
        split: Of files, ``validation`` is 5 % of them (1 to 1000), chosen by a hash of their names, ``train`` the
            others and ``test`` all. Synthetic faces have three disjoint splits.

    Raises:
        UserError: The data cannot be opened, or too few files for the split.
    """
    if split not in get_args(Split):
        raise unknown("split", split, get_args(Split))
    if data == "synthetic":
        return SyntheticFaces(resolution, split)
    return ImageFiles(open_store(data), resolution, split)


class ImageFiles(ImageDataset):
    """Pictures of a folder or zip, cropped to the central square and resized."""

    def __init__(self, store: Store, resolution: int, split: Split) -> None:
        super().__init__(_short_name(store.path), resolution, split)
        self.store = store
        self.names = split_names(store.names, split)
        self._told: set[str] = set()
        if not self.names:
            raise RunError(f"{str(store.path)!r} holds one image only, which is kept for validation; add images")

    def __len__(self) -> int:
        return len(self.names)

    def load(self, indices: Sequence[int]) -> Tensor:
        """Read several pictures."""
        notes = PictureNotes()
        pictures = [self._picture(self.names[index], notes) for index in indices]
        self._tell(notes)
        return torch.stack(pictures)

    def _picture(self, name: str, notes: PictureNotes) -> Tensor:
        picture = read_image(self.store.read(name), f"{self.store.path}: {name}", notes)
        note_fit(notes, f"{self.store.path}: {name}", picture, self.resolution)
        return fit(picture, self.resolution)

    def _tell(self, notes: PictureNotes) -> None:
        """Tell of each kind of note once: of several processes that read the first one tells."""
        worker = get_worker_info()
        for kind, first in notes.firsts():
            if kind not in self._told and (worker is None or worker.id == 0):
                warnings.warn(f"{first!r}: {kind}; others are not told of", Notice, stacklevel=2)
            self._told.add(kind)

    def key(self, index: int) -> str:
        """Return the file name relative to the folder or zip."""
        return self.names[index]

    def identity(self) -> tuple[object, ...]:
        """Return what identifies the files and how they are read."""
        return "files-1", *self.store.identity(), self.resolution, self.split


def split_names(names: list[str], split: Split) -> list[str]:
    """Return the names that belong to a split, in their order.

    The hash leaves out the extension, so a set that was re-encoded keeps its validation images.

    Example:
        >>> names = [f"{i:03}.jpg" for i in range(100)]
        >>> [len(split_names(names, split)) for split in ("train", "validation", "test")]
        [95, 5, 100]
    """
    if split == "test":
        return names
    count = min(max(round(VALIDATION_FRACTION * len(names)), 1), MAX_VALIDATION_IMAGES)
    held_out = set(sorted(names, key=_hash_of_stem)[:count])
    return [name for name in names if (name in held_out) == (split == "validation")]


def _hash_of_stem(name: str) -> tuple[bytes, str]:
    stem = str(PurePosixPath(name).with_suffix("")).encode(errors="surrogateescape")
    return hashlib.blake2b(stem, digest_size=8).digest(), name


def _short_name(path: Path) -> str:
    path = path.resolve()
    name = path.stem if path.is_file() else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "images"
