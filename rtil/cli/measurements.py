"""Reading what users measured: pictures, .npy files, and folders of them as the frames of a sequence."""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rtil.data.images import EXTENSIONS, fit, read_image
from rtil.errors import UserError
from rtil.inverse.operators import Operator
from rtil.inverse.perceptual import is_picture

ARRAY = ".npy"
MOST_PICTURE_VALUE = 4.0
"""Noise aside, pictures are in [0, 1]; far above that they are on another scale."""


def read_sequence(path: Path, operator: Operator, fitted: bool = False) -> tuple[Tensor, list[str]]:
    """Return measurements [N, *measurement_shape], float32, in the order of the frames, and the frames' names.

    Args:
        path: An .npy file, or a folder: its pictures and .npy files, sorted by name, numbers in it by their value.
        operator: What they were measured with.
        fitted: Crop and resize pictures to the side that is expected.

    Raises:
        UserError: The folder has no such file, or others; a file cannot be read, or cannot be a measurement.
    """
    files = frame_files(path) if path.is_dir() else [path]
    parts = [read_measurement(file, operator, fitted) for file in files]
    names = []
    for file, part in zip(files, parts, strict=True):
        names += [file.name] if len(part) == 1 else [f"{file.name}[{i}]" for i in range(len(part))]
    return torch.cat(parts), names


def frame_files(folder: Path) -> list[Path]:
    """Return the pictures and .npy files in a folder: frame2 comes before frame10; hidden files are not looked at.

    Raises:
        UserError: There is none, or a file of another kind.
    """
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    valid = (*EXTENSIONS, ARRAY)
    for path in files:
        if path.suffix.lower() not in valid:
            raise UserError(f"{path} cannot be a frame: valid are {', '.join(valid)}; take it out of the folder")
    if not files:
        raise UserError(f"{folder} holds no frames: valid are files {', '.join(valid)}")
    return sorted(files, key=lambda path: [int(w) if w.isdecimal() else w for w in re.split(r"(\d+)", path.name)])


def read_measurement(path: Path, operator: Operator, fitted: bool = False) -> Tensor:
    """Return measurements [N, *measurement_shape], float32.

    Args:
        path: A picture, or an .npy file with one or N measurements.
        operator: What they were measured with.
        fitted: Crop and resize a picture to the side that is expected.

    Raises:
        UserError: The file cannot be read, or cannot be a measurement by this operator.
    """
    shape = operator.measurement_shape
    if path.suffix.lower() == ARRAY:
        y = _read_array(path)
        y = y[None] if tuple(y.shape) == shape else y
    elif not is_picture(shape):
        size = " x ".join(map(str, shape))
        raise UserError(f"{path} is a picture, but a measurement of {operator.label} is {size} numbers: give an .npy")
    else:
        picture = _read_picture(path, shape[1], fitted)
        y = operator.A(picture) if shape[0] == 1 else picture
    operator.check_measurement(y)
    if is_picture(shape) and y.abs().max() > MOST_PICTURE_VALUE:
        raise UserError(f"{path} holds values up to {y.abs().max():g}: pictures are in [0, 1]; divide bytes by 255")
    return torch.where(operator.observed, y.float(), 0)


def _read_array(path: Path) -> Tensor:
    try:
        array = np.load(path, allow_pickle=False)
        return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise UserError(f"{path} cannot be read as an .npy file of numbers: {error}") from error


def _read_picture(path: Path, side: int, fitted: bool) -> Tensor:
    try:
        picture = read_image(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"input {path} cannot be read ({error.strerror}): give a picture or an .npy file") from error
    if fitted:
        picture = fit(picture, side)
    if picture.shape[1:] != (side, side):
        height, width = picture.shape[1:]
        raise UserError(f"{path} is {height}x{width} pixels, expected are {side}x{side}: prepare it so, or add --fit")
    return picture[None].float() / 255
