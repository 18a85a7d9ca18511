"""Held-out pictures, and the training pictures that the linear prior is fitted to.

Pictures are the first N of one fixed permutation of the held-out set: they do not depend on the seed, and fewer
pictures are always among more. So that others' protocols can be followed they may also be the first N by name, or the
first N of a list of names. A run that is resumed keeps its own, whatever has come to the set or gone from it.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import torch
from torch import Tensor

from rtil.data import ImageDataset, open_dataset, preload
from rtil.errors import Notice, UserError, unknown
from rtil.evaluation.candidates import HeldOut
from rtil.evaluation.linear_prior import LinearPrior
from rtil.seeds import generator

PRIOR_MEMORY_BYTES = 2_000_000_000
DRAWN, FIRST = "drawn", "first"


@dataclass(frozen=True)
class HeldOutPictures:
    """Held-out pictures.

    Attributes:
        keys: Stable id of each.
        images: uint8 [N, 3, R, R].
        data: Where they come from.
        split: Which part of it.
        which: How they were chosen.
        gone: Indices of those that are not there any more, and grey.
    """

    keys: list[str]
    images: Tensor
    data: str
    split: HeldOut
    which: str = DRAWN
    gone: frozenset[int] = frozenset()


def picture_hash(picture: Tensor) -> str:
    """Return 12 hex digits of a picture's bytes, uint8 [3, R, R]."""
    return hashlib.sha256(picture.contiguous().numpy().tobytes()).hexdigest()[:12]


def heldout_pictures(
    data: str, resolution: int, split: HeldOut, count: int, which: str = DRAWN, before: Sequence[str] = ()
) -> HeldOutPictures:
    """Take pictures from a held-out set.

    Args:
        data: The set.
        resolution: Side R to which pictures are cropped and resized.
        split: Its part.
        count: How many.
        which: ``drawn``; ``first``, in the order of their names; or a text file of names, one a line.
        before: Ids of those that come before all others, as those of a run do that is resumed. They may be gone.

    Raises:
        UserError: The set cannot be opened, or has fewer pictures, or not those of the list.
    """
    if split not in get_args(HeldOut):
        raise unknown("split", split, get_args(HeldOut))
    ds = open_dataset(data, resolution, split)
    if which == DRAWN:
        order = evaluation_order(len(ds))
    elif which == FIRST:
        order = list(range(len(ds)))
    else:
        order = _listed(ds, Path(which))
    places = {ds.key(index): index for index in range(len(ds))}
    keys = list(dict.fromkeys([*before, *map(ds.key, order)]))
    if not 1 <= count <= len(keys):
        whose = f"{data} ({split})" if which in (DRAWN, FIRST) else which
        raise UserError(f"images is {count}: valid is 1 to {len(keys)}, the pictures of {whose}")
    there = [number for number, key in enumerate(keys[:count]) if key in places]
    gone = frozenset(range(count)) - frozenset(there)
    if not gone:
        return HeldOutPictures(keys[:count], ds.load([places[key] for key in keys[:count]]), data, split, which)
    first = keys[min(gone)]
    text = f"pictures gone from {data}: {len(gone)} of {count} (first: {first!r}); nothing more is computed of them"
    warnings.warn(text, Notice, stacklevel=2)
    images = torch.full((count, 3, ds.resolution, ds.resolution), 128, dtype=torch.uint8)
    if there:
        images[there] = ds.load([places[keys[number]] for number in there])
    return HeldOutPictures(keys[:count], images, data, split, which, gone)


def evaluation_order(pictures: int) -> list[int]:
    """Return the places of a set's pictures in the order in which they are evaluated."""
    order: list[int] = torch.randperm(pictures, generator=generator(0, "study/pictures")).tolist()
    return order


def _listed(ds: ImageDataset, path: Path) -> list[int]:
    """Return the places of listed pictures, named with or without folder and extension if that is clear."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"pictures is '{path}': valid is drawn, first, or a text file of names ({error})") from error
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    places: dict[str, list[int]] = {}
    for index in range(len(ds)):
        key = PurePosixPath(ds.key(index))
        for name in {str(key), str(key.with_suffix("")), key.name, key.stem}:
            places.setdefault(name, []).append(index)
    for name in names:
        if len(places.get(name, ())) != 1:
            what = "is not in" if name not in places else "is the name of several pictures of"
            raise UserError(f"picture '{name}' of list {path} {what} {ds.name}: give the list of this set")
    order = [places[name][0] for name in names]
    if len(set(order)) != len(order):
        raise UserError(f"list {path} names a picture twice: name each once")
    return order


def heldout_source(
    infos: Sequence[Mapping[str, Any]], data: str | None, split: HeldOut | None, linear_data: str | None = None
) -> tuple[str, HeldOut]:
    """Decide where held-out pictures come from.

    Without ``data``: the test split of the synthetic faces, or the validation split of the files that the checkpoints
    were trained on. With it: all of its pictures, unless the checkpoints, or the linear prior, were trained on them.

    Args:
        infos: What the snapshots say of their training; those of other projects nothing.
        data: The user's held-out set.
        split: The split that the user wants.
        linear_data: What the linear prior is fitted to.

    Raises:
        UserError: Checkpoints of different or unknown data without ``data``, or pictures that were trained on.
    """
    told = list(dict.fromkeys(str(info["data"]) for info in infos if "data" in info))
    if data is None and len(told) > 1:
        raise UserError(f"checkpoints were trained on different data ({', '.join(told)}): give --data")
    if data is None and not all("data" in info for info in infos):
        raise UserError("a checkpoint does not say what it was trained on: give held-out pictures as --data")
    trained_on = told if linear_data is None else [*told, linear_data]
    source = trained_on[0] if data is None else data
    if source == "synthetic":
        return source, split or "test"
    seen = any(other != "synthetic" and Path(other).resolve() == Path(source).resolve() for other in trained_on)
    if seen and split == "test":
        raise UserError(
            f"split 'test' of {source} holds the training pictures: use --split validation, or other --data"
        )
    return source, split or ("validation" if seen else "test")


def linear_prior_source(infos: Sequence[Mapping[str, Any]], data: str | None) -> str | None:
    """Return what the linear prior is fitted to: ``data``, or what the first checkpoint that says so was trained on."""
    return data or next((str(info["data"]) for info in infos if "data" in info), None)


def open_linear_prior_data(data: str, resolution: int) -> ImageDataset:
    """Open training pictures, to which the linear prior is fitted.

    Raises:
        UserError: They are not there, as with those of a snapshot from another machine.
    """
    try:
        return open_dataset(data, resolution, "train")
    except UserError as error:
        message = f"the linear prior needs the training pictures ({error}): mend that, or add --no_linear"
        raise UserError(message) from error


def fit_linear_prior(data: str, resolution: int, without: Sequence[int] = ()) -> LinearPrior:
    """Fit a Gaussian to training pictures, to as many of them as fit into two gigabytes.

    Args:
        data: The set.
        resolution: Side of the pictures.
        without: Places of pictures to leave out.
    """
    ds = open_linear_prior_data(data, resolution)
    most = PRIOR_MEMORY_BYTES // (3 * ds.resolution**2)
    if len(ds) <= most and not without:
        return LinearPrior.fit(preload(ds))
    left_out = torch.zeros(len(ds), dtype=torch.bool)
    left_out[list(without)] = True
    if len(ds) <= most:
        return LinearPrior.fit(preload(ds)[~left_out])
    order = torch.randperm(len(ds), generator=generator(0, "study/linear-prior"))
    chosen = order[~left_out[order]][:most]
    return LinearPrior.fit(ds.load(chosen.sort().values.tolist()))
