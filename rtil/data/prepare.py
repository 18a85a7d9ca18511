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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from PIL import Image
from tqdm import tqdm

from rtil.data.alignment import crop
from rtil.data.images import fit, read_image
from rtil.data.landmarks import FaceAligner
from rtil.data.stores import Store, is_safe
from rtil.errors import RunError, UserError
from rtil.files import atomic_path

BAD_PICTURES, BAD_FRACTION = 10, 0.01
"""So many may be left out, whichever is more: a few of a folder of one's own, a hundredth of a large set."""
CHUNK = 256
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
) -> tuple[list[Picture], list[Skipped]]:
    """Pack pictures into an uncompressed zip with a manifest; return what was packed and what was left out.

    Args:
        store: The pictures.
        out: The zip to write; an existing one is replaced when the new one is complete.
        resolution: Side in pixels to crop and resize to; stored as they are if not given.
        skip: Leave pictures out that cannot be read or show no face: at most ten or a hundredth of them, and less than
            half.
        aligner: Crops to the face, in place of the central square; needs a resolution.

    Raises:
        RunError: A picture is bad, or too many are; the output cannot be written.
    """
    pictures: list[Picture] = []
    skipped: list[Skipped] = []
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content, size in _convert_all(store, resolution, skip, skipped, aligner):
            archive.writestr(_member(name), content)
            pictures.append(Picture(name, *size, hashlib.sha256(content).hexdigest()))
        _check_skipped(skipped, len(store.names))
        archive.writestr(_member("manifest.json"), _manifest(resolution, aligner, pictures, skipped))
    return pictures, skipped


def _convert_all(
    store: Store, resolution: int | None, skip: bool, skipped: list[Skipped], aligner: FaceAligner | None
) -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    """Yield (name, content, (width, height)) of the good pictures in order, and append the others to ``skipped``."""
    outputs = store.names if resolution is None else png_names(store.names)
    work = list(zip(store.names, outputs, strict=True))

    def attempt(item: tuple[str, str]) -> tuple[bytes, tuple[int, int]] | UserError:
        try:
            return _convert(store, item[0], resolution, aligner)
        except UserError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(work), unit="image", disable=None) as bar:
        for start in range(0, len(work), CHUNK):  # in chunks, so that pictures do not pile up in memory
            chunk = work[start : start + CHUNK]
            for (name, output), result in zip(chunk, pool.map(attempt, chunk), strict=True):
                bar.update()
                if not isinstance(result, UserError):
                    yield output, *result
                elif skip:
                    skipped.append(Skipped(name, str(result)))
                else:
                    raise RunError(f"{result} (or leave bad images out with --on_bad_image skip)")


def _convert(
    store: Store, name: str, resolution: int | None, aligner: FaceAligner | None
) -> tuple[bytes, tuple[int, int]]:
    if not is_safe(name):
        raise UserError(f"image {name!r} has a name that other systems cannot store: rename it")
    content = store.read(name)
    image = read_image(content, name)
    if resolution is None:
        return content, (image.shape[2], image.shape[1])
    framed = fit(image, resolution) if aligner is None else crop(image, aligner.square(image, name), resolution)
    buffer = io.BytesIO()
    Image.fromarray(framed.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG")
    return buffer.getvalue(), (resolution, resolution)


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
