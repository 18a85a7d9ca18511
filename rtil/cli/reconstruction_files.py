"""What reconstruct and render leave in their folders, and say of each picture."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from rtil.errors import printable
from rtil.evaluation.figures import picture_grid
from rtil.inverse.history import steps_per_round
from rtil.inverse.intervals import half_width
from rtil.inverse.result import Inversion
from rtil.pictures import save_png
from rtil.reading import opened

RESULT_FILE = "result.safetensors"
HISTORY = "history.csv"
PICTURE = "reconstruction.png"
PLACED = "placed.png"
FRAMES = "frames.png"
SPREAD = "spread.png"
SHEET = "sheet.png"
MASK = "mask.png"
WRITTEN_LEVEL = 0.9
"""Nominal coverage of the intervals that are written."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits."""
    with opened(path, "result") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def labelled(path: Path, labels: Sequence[str]) -> list[Path]:
    """Return a file name for each label: ``name-LABEL.png``, or ``path`` itself where it is empty.

    Example:
        >>> [path.name for path in labelled(Path("out/frames.png"), ["000", "face", ""])]
        ['frames-000.png', 'frames-face.png', 'frames.png']
    """
    return [path.with_name(f"{path.stem}-{label}{path.suffix}") if label else path for label in labels]


def write_pictures(x: Tensor, paths: Sequence[Path]) -> None:
    """Write pictures [N, 3, R, R] as PNG files."""
    for path, picture in zip(paths, x, strict=True):
        save_png(picture, path)


def write_spread(x: Tensor, spread: Tensor, half_widths: Tensor, path: Path) -> None:
    """Write means, the ends of intervals and the spread, [N, 3, R, R] each, side by side.

    The label says which standard deviation is white: the largest of all pictures, rounded up to two digits; a colour is
    that of the channels that vary.
    """
    largest = spread.max().item()
    digits = 1 - math.floor(math.log10(largest)) if largest else 0
    white = math.ceil(largest * 10**digits) / 10**digits or 1.0
    ends = {"90 % from": (x - half_widths).clamp(0, 1), "to": (x + half_widths).clamp(0, 1)}
    picture_grid({"mean": x} | ends | {f"std to {white:g}": spread / white}, path)


def images_of(
    found: Inversion, names: list[str], pictures: Sequence[Path], errors: list[float], interval_scale: float = 1.0
) -> list[dict[str, Any]]:
    """Return what result.json says of each picture.

    Errors are those of pictures in [-1, 1], mean_spread and mean_half_width, of 90 % intervals, of [0, 1]. The steps
    per round are there where pictures may stop early, and whether it converged with methods that know.
    """
    spread = half_widths = None
    if found.spread is not None:
        half = half_width(found.spread, len(found.latents.ws), WRITTEN_LEVEL, interval_scale)
        spread, half_widths = (t.flatten(1).mean(1).tolist() for t in (found.spread, half))
    return by_image(
        {
            "input": names,
            "picture": [picture.name for picture in pictures],
            "status": found.status,
            "measurement_error": errors,
            "converged": found.latents.converged,
            "steps_per_round": steps_per_round(found),
            "mean_spread": spread,
            "mean_half_width": half_widths,
        }
    )


def by_image(columns: Mapping[str, Sequence[Any] | None]) -> list[dict[str, Any]]:
    """Return what is said of each picture, given lists of N by name; what is None is said of none.

    Example:
        >>> by_image({"status": ["ok", "diverged"], "converged": None})
        [{'status': 'ok'}, {'status': 'diverged'}]
    """
    known = {name: values for name, values in columns.items() if values is not None}
    return [dict(zip(known, values, strict=True)) for values in zip(*known.values(), strict=True)]


def lines_of(pictures: Sequence[Path], images: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what is printed of each picture, given what result.json says of it.

    Example:
        >>> image = {"status": "ok", "measurement_error": 0.01, "converged": False, "steps_per_round": [40, 12.5]}
        >>> list(lines_of([Path("a.png")], [image]))
        ['a.png: ok, measurement error 0.01, not converged, 40 + 12.5 steps']
    """
    for picture, image in zip(pictures, images, strict=True):
        words = [f"{picture}: {image['status']}", f"measurement error {image['measurement_error']:.3g}"]
        if "converged" in image:
            words.append("converged" if image["converged"] else "not converged")
        if "steps_per_round" in image:
            words.append(f"{' + '.join(map(str, image['steps_per_round']))} steps")
        yield printable(", ".join(words))
