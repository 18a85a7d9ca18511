"""Packing pictures into the uncompressed zip that training reads, with a manifest.

Every picture is decoded, so that damage shows here and not in the middle of a training. Without a resolution the files
are stored as they are; with it they are cropped to the central square, or to the face, resized and stored as PNG. The
same source gives the same bytes. manifest.json lists name, width, height and SHA-256 of every picture, and what was
left out and why.
"""

import hashlib
import io
import json
import os
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from rtil.budget import SHARE, available_bytes
from rtil.data.alignment import crop
from rtil.data.images import BYTES_PER_FITTED_PIXEL, check_side, fit, note_fit, read_image
from rtil.data.landmarks import FaceAligner
from rtil.data.picture_notes import ENLARGED, PictureNotes
from rtil.data.stores import Store, is_safe
from rtil.errors import RunError, UserError
from rtil.files import atomic_path

BAD_PICTURES, BAD_FRACTION = 10, 0.01
"""So many may be left out, whichever is more: a few of a folder of one's own, a hundredth of a large set."""
AHEAD = 3
"""Pictures for each thread that are worked on, or wait to be written."""
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: times would make equal content differ


@dataclass
class Picture:
    """One picture of the output; width and height are those of the upright picture."""

    name: str
    width: int
    height: int
    sha256: str


@dataclass
class Skipped:
    """One picture of the source that was left out."""

    name: str
    reason: str


def prepare(
    store: Store,
    out: Path,
    resolution: int | None = None,
    skip: bool = False,
    aligner: FaceAligner | None = None,
    notes: PictureNotes | None = None,
) -> tuple[list[Picture], list[Skipped]]:
    """Pack pictures into an uncompressed zip with a manifest; return what was packed and what was left out.

    Args:
        store: The pictures.
        out: The zip to write; an existing one is replaced when the new one is complete.
        resolution: Side in pixels to crop and resize to; stored as they are if not given.
        skip: Leave pictures out that cannot be read or show no face: at most ten or a hundredth of them, and less than
            half.
        aligner: Crops to the face, in place of the central square; needs a resolution.
        notes: Is told what was done to pictures.

    Raises:
        RunError: A picture is bad, or too many are; the output cannot be written.
    """
    pictures: list[Picture] = []
    skipped: list[Skipped] = []
    notes = PictureNotes() if notes is None else notes
    if resolution is not None:
        check_side(resolution)
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content, size in _convert_all(store, resolution, skip, skipped, aligner, notes):
            archive.writestr(_member(name), content)
            pictures.append(Picture(name, *size, hashlib.sha256(content).hexdigest()))
        _check_skipped(skipped, len(store.names))
        archive.writestr(_member("manifest.json"), _manifest(resolution, aligner, pictures, skipped))
    return pictures, skipped


def _convert_all(
    store: Store,
    resolution: int | None,
    skip: bool,
    skipped: list[Skipped],
    aligner: FaceAligner | None,
    notes: PictureNotes,
) -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    """Yield (name, content, (width, height)) of the good pictures in order, and append the others to ``skipped``."""
    outputs = store.names if resolution is None else png_names(store.names)
    workers = _workers(resolution)

    def attempt(name: str) -> tuple[bytes, tuple[int, int]] | UserError:
        try:
            return _convert(store, name, resolution, aligner, notes)
        except UserError as error:
            return error

    ahead: deque[tuple[str, str, Future[tuple[bytes, tuple[int, int]] | UserError]]] = deque()
    work = iter(zip(store.names, outputs, strict=True))
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(outputs), unit="image", disable=None) as bar:
        try:
            while True:
                for name, output in islice(work, AHEAD * workers - len(ahead)):  # so that none pile up in memory
                    ahead.append((name, output, pool.submit(attempt, name)))
                if not ahead:
                    return
                name, output, done = ahead.popleft()
                result = done.result()
                bar.update()
                if not isinstance(result, UserError):
                    yield output, *result
                elif skip:
                    skipped.append(Skipped(name, str(result)))
                else:
                    raise RunError(f"{result} (or leave bad images out with --on_bad_image skip)")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _workers(resolution: int | None) -> int:
    """Return how many pictures may be worked on at a time."""
    most, available = os.cpu_count() or 1, available_bytes()
    if resolution is None or available is None:
        return most
    return max(1, min(most, int(SHARE * available) // (BYTES_PER_FITTED_PIXEL * resolution**2)))


def _convert(
    store: Store, name: str, resolution: int | None, aligner: FaceAligner | None, notes: PictureNotes
) -> tuple[bytes, tuple[int, int]]:
    if not is_safe(name):
        raise UserError(f"image {name!r} has a name that other systems cannot store: rename it")
    content = store.read(name)
    image = read_image(content, name, notes)
    if resolution is None:
        return content, (image.shape[2], image.shape[1])
    framed = _framed(image, name, resolution, aligner, notes)
    buffer = io.BytesIO()
    Image.fromarray(framed.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG")
    return buffer.getvalue(), (resolution, resolution)


def _framed(image: Tensor, name: str, resolution: int, aligner: FaceAligner | None, notes: PictureNotes) -> Tensor:
    if aligner is None:
        note_fit(notes, name, image, resolution)
        return fit(image, resolution)
    square = aligner.square(image, name)
    if square.side < resolution:
        notes.add(ENLARGED, name)
    return crop(image, square, resolution)


def png_names(names: list[str]) -> list[str]:
    """Return the names with the extension .png; appended, not exchanged, if two pictures would get the same one.

    Example:
        >>> png_names(["a/0.jpg", "b/0.jpg"]), png_names(["0.jpg", "0.tif"])
        (['a/0.png', 'b/0.png'], ['0.jpg.png', '0.tif.png'])
    """
    exchanged = [str(PurePosixPath(name).with_suffix(".png")) for name in names]
    return exchanged if len(set(exchanged)) == len(names) else [name + ".png" for name in names]


def _check_skipped(skipped: list[Skipped], total: int) -> None:
    if len(skipped) > max(BAD_PICTURES, BAD_FRACTION * total) or 2 * len(skipped) >= total:
        limit = f"at most {BAD_PICTURES} or {BAD_FRACTION:.0%}, and less than half, may be left out"
        raise RunError(
            f"{len(skipped)} of {total} images are bad: {limit}; repair the source; first: {skipped[0].reason}"
        )


def _manifest(
    resolution: int | None, aligner: FaceAligner | None, pictures: list[Picture], skipped: list[Skipped]
) -> str:
    content = {
        "version": 1,
        "resolution": resolution,
        "align": None if aligner is None else aligner.framing,
        "images": [asdict(picture) for picture in pictures],
        "skipped": [asdict(entry) for entry in skipped],
    }
    return json.dumps(content, indent=1) + "\n"


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, EPOCH)
    member.create_system = 3  # Unix, on every system
    member.external_attr = 0o644 << 16
    return member


def equal_ones(pictures: Sequence[Picture]) -> Iterator[str]:
    """Yield a line where pictures are the same, bit for bit: a training would see them as often as they are there."""
    first: dict[str, str] = {}
    ones = [(picture.name, first.setdefault(picture.sha256, picture.name)) for picture in pictures]
    repeated = [(name, one) for name, one in ones if name != one]
    if len(first) == 1 and len(pictures) > 1:
        yield f"all {len(pictures)} pictures are equal: there is nothing to learn from them"
    elif repeated:
        name, one = repeated[0]
        yield f"{len(repeated)} pictures are equal to one before; first: {name!r} to {one!r}"
