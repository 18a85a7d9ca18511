"""Turns a folder or any zip of pictures into the uncompressed zip that training reads, with a manifest.

    python datasets/prepare.py SOURCE OUT.zip [--resolution R] [--on_bad_image error|skip]

Every picture is decoded, so that damage shows here and not in the middle of a training. Without --resolution the
files are stored as they are; with it they are cropped to the central square, resized and stored as PNG. The same
source gives the same bytes. manifest.json lists name, width, height and SHA-256 of every picture, and what was left
out and why.
"""

import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from jsonargparse import auto_cli
from PIL import Image
from tqdm import tqdm

from rtil.data.images import fit, read_image
from rtil.data.stores import Store, is_safe, open_store
from rtil.errors import UserError
from rtil.files import atomic_path

MAX_BAD_FRACTION = 0.01
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
    source: str, out: str, resolution: int | None = None, on_bad_image: Literal["error", "skip"] = "error"
) -> None:
    """Pack the pictures of a folder or zip into an uncompressed zip with a manifest.

    Args:
        source: Folder or zip of pictures.
        out: The zip to write; an existing one is replaced when the new one is complete.
        resolution: Side in pixels to crop and resize to; stored as they are if not given.
        on_bad_image: Stop at a picture that cannot be read, or leave it out (of at most 1 % of the pictures).

    Raises:
        UserError: Source or output are not usable, or a picture is bad.
    """
    target = Path(out)
    if target.suffix.lower() != ".zip" or target.is_dir():
        raise UserError(f"output {out!r} is not valid: give the name of a .zip file")
    if target.exists() and target.resolve() == Path(source).resolve():
        raise UserError(f"output {out!r} is also the source: give another name")
    if resolution is not None and resolution < 1:
        raise UserError(f"resolution {resolution} is not valid: give a positive number of pixels")
    store = open_store(source, allow_compressed=True)
    pictures: list[Picture] = []
    skipped: list[Skipped] = []
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content, size in _convert_all(store, resolution, on_bad_image, skipped):
            archive.writestr(_member(name), content)
            pictures.append(Picture(name, *size, hashlib.sha256(content).hexdigest()))
        _check_skipped(skipped, len(store.names))
        archive.writestr(_member("manifest.json"), _manifest(resolution, pictures, skipped))
    for entry in skipped:
        print(f"skipped {entry.name!r}: {entry.reason}")
    print(f"{target}: {len(pictures)} images, {len(skipped)} skipped, {target.stat().st_size / 1e6:.1f} MB")


def _convert_all(
    store: Store, resolution: int | None, on_bad_image: str, skipped: list[Skipped]
) -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    """Yield (name, content, (width, height)) of the good pictures in order, and append the others to ``skipped``."""
    outputs = store.names if resolution is None else png_names(store.names)
    work = list(zip(store.names, outputs, strict=True))

    def attempt(item: tuple[str, str]) -> tuple[bytes, tuple[int, int]] | UserError:
        try:
            return _convert(store, item[0], resolution)
        except UserError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(work), unit="image", disable=None) as bar:
        for start in range(0, len(work), CHUNK):  # in chunks, so that pictures do not pile up in memory
            chunk = work[start : start + CHUNK]
            for (name, output), result in zip(chunk, pool.map(attempt, chunk), strict=True):
                bar.update()
                if not isinstance(result, UserError):
                    yield output, *result
                elif on_bad_image == "skip":
                    skipped.append(Skipped(name, str(result)))
                else:
                    raise UserError(f"{result} (or leave bad images out with --on_bad_image skip)")


def _convert(store: Store, name: str, resolution: int | None) -> tuple[bytes, tuple[int, int]]:
    if not is_safe(name):
        raise UserError(f"image {name!r} has a name that other systems cannot store: rename it")
    content = store.read(name)
    image = read_image(content, name)
    if resolution is None:
        return content, (image.shape[2], image.shape[1])
    buffer = io.BytesIO()
    Image.fromarray(fit(image, resolution).permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG")
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
    if len(skipped) > MAX_BAD_FRACTION * total:
        first = skipped[0].reason
        raise UserError(f"{len(skipped)} of {total} images are bad, more than 1 %: repair the source; first: {first}")


def _manifest(resolution: int | None, pictures: list[Picture], skipped: list[Skipped]) -> str:
    content = {
        "version": 1,
        "resolution": resolution,
        "images": [asdict(picture) for picture in pictures],
        "skipped": [asdict(entry) for entry in skipped],
    }
    return json.dumps(content, indent=1) + "\n"


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, EPOCH)
    member.create_system = 3  # Unix, on every system
    member.external_attr = 0o644 << 16
    return member


def main() -> None:
    """Run the command line."""
    try:
        auto_cli(prepare, as_positional=True, allow_abbrev=False)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: cannot write the output: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
