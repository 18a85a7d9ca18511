"""Reading what users measured: pictures, .npy files, files that say how they were measured, and folders of pictures."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rtil.cli.operator_options import OperatorOptions
from rtil.data.alignment import Square, crop
from rtil.data.arrays import read_array
from rtil.data.images import EXTENSIONS, fit, note_fit, read_with_transparency
from rtil.data.landmarks import FaceAligner
from rtil.data.picture_notes import ENLARGED, PictureNotes
from rtil.errors import UserError
from rtil.inverse.measurement_file import load_measurement
from rtil.inverse.operators import Operator, mask_from_file
from rtil.inverse.operators.masks import WHITE_FROM, mask_size
from rtil.inverse.perceptual import is_picture
from rtil.inverse.recipe import OperatorRecipe
from rtil.labels import as_label, is_label
from rtil.reading import read_file, unreadable

ARRAY = ".npy"
SEALED = ".safetensors"
MOST_PICTURE_VALUE = 4.0
"""Noise aside, pictures are in [0, 1]; far above that they are on another scale."""
UNKNOWN_GREY = 0.5
"""What stands for the colour of transparent pixels."""
TRANSPARENCY = "transparency"
"""Name of the mask that is a picture's own."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """One measurement of a user, and how it was made.

    Attributes:
        y: float32, of the operator's measurement shape; 0 where nothing is observed.
        operator: Shared by those that were made alike.
        recipe: How it is made.
        name: Of the input, for reports.
        stem: By which its pictures may be called; None where the input does not name them.
        photo: The picture that was given, uint8 [4, H, W], upright, with alpha; None where it was none.
        framed: That picture as it was measured, float [3, R, R] in [0, 1]; None where it has not the prior's side.
        square: Where the face was cropped from that picture; None where none was sought.
        is_told: Whether the file says how it was made.
        raw: What an array holds, where nothing is observed, too; None of other inputs.
    """

    y: Tensor
    operator: Operator
    recipe: OperatorRecipe
    name: str
    stem: str | None = None
    photo: Tensor | None = None
    framed: Tensor | None = None
    square: Square | None = None
    is_told: bool = False
    raw: Tensor | None = None


class MeasurementReader:
    """Reads measurements for a prior.

    Args:
        options: How they were made, unless a file says so itself; then it takes that over.
        given: Names of the options that the user gave, which must agree with such a file.
        side: Of the prior's pictures, in pixels.
        fitted: Crop and resize pictures to the side that is expected.
        aligner: Crops them to the face instead.

    Attributes:
        notes: What was done to pictures that were read.
    """

    def __init__(
        self,
        options: OperatorOptions,
        given: Collection[str],
        side: int,
        fitted: bool = False,
        aligner: FaceAligner | None = None,
    ) -> None:
        self.options, self.given, self.side, self.fitted, self.aligner = options, given, side, fitted, aligner
        self.notes = PictureNotes()
        self._made: dict[bytes, tuple[Operator, OperatorRecipe]] = {}

    def read(self, path: Path) -> list[Measurement]:
        """Return the measurements in a file, or in the files of a folder: frame2 comes before frame10.

        Raises:
            UserError: There is no such file, or one of another kind; a file cannot be read, or cannot be a measurement.
        """
        if path.is_dir():
            return [replace(one, stem=_stem(one.name)) for file in files_in(path) for one in self._file(file)]
        return list(self._file(path))

    def _file(self, path: Path) -> Iterator[Measurement]:
        if self.aligner is not None and path.suffix.lower() in (SEALED, ARRAY):
            raise UserError(f"{path} is no picture, so no face is sought in it: leave --align away")
        if path.suffix.lower() == SEALED:
            yield from self._sealed(path)
        elif path.suffix.lower() == ARRAY:
            operator, recipe = self._chosen(path)
            y = torch.from_numpy(read_array(path))
            y = y[None] if tuple(y.shape) == operator.measurement_shape else y
            checked = _checked(path, y, operator)
            for i, one in enumerate(checked):
                yield Measurement(one, operator, recipe, f"{path.name}[{i}]" if len(y) > 1 else path.name, raw=y[i])
        else:
            yield self._picture(path)

    def _sealed(self, path: Path) -> Iterator[Measurement]:
        file = load_measurement(path)
        self.options.adopt(file.recipe, self.given, path)
        operator = file.recipe.make()
        if operator.img_size != (3, self.side, self.side):
            size = "x".join(map(str, operator.img_size[1:]))
            raise UserError(
                f"{path} measured pictures of {size} pixels but the prior's have side {self.side}: give another one"
            )
        for i, y in enumerate(_checked(path, file.y, operator)):
            name = path.name if len(file.y) == 1 else f"{path.name}[{i}]"
            stem = _stem(file.names[i]) if file.names else None
            yield Measurement(y, operator, file.recipe, file.names[i] if file.names else name, stem, is_told=True)

    def _picture(self, path: Path) -> Measurement:
        photo = _read_picture(path, self.notes)
        own = self._own_mask(path, photo)
        framed = photo if own is None else torch.cat([photo[:3], photo[3:].where(own, 0)])
        if own is None:
            operator, recipe = self._chosen(path)
        shape = (3, self.side, self.side) if own is not None else operator.measurement_shape
        if not is_picture(shape):
            size = " x ".join(map(str, shape))
            raise UserError(f"{path} is a picture, but {self.options.task} measures {size} numbers: give an {ARRAY}")
        square = None if self.aligner is None else self.aligner.square(photo[:3], path.name)
        if square is None:
            picture = self._framed(path, framed, shape[1])
        else:
            if square.side < shape[1]:
                self.notes.add(ENLARGED, str(path))
            picture = crop(framed, square, shape[1], outside_is_missing=own is not None)
        opaque = picture[3] >= WHITE_FROM
        if own is not None:
            operator, recipe = self._masked(path, opaque)
        x = picture[None, :3].float() / 255
        y = operator.A(x) if shape[0] == 1 else x
        if own is None and not opaque.all() and bool((operator.observed & ~opaque).any()):
            raise UserError(
                f"{path} has transparent pixels, which hold nothing: fill them in by --task inpaint, without rate and "
                "mask, or save it without transparency"
            )
        shown = torch.where(opaque, x[0], UNKNOWN_GREY) if shape[1] == self.side else None
        checked = _checked(path, y, operator)[0]
        return Measurement(checked, operator, recipe, path.name, photo=photo, framed=shown, square=square)

    def _own_mask(self, path: Path, photo: Tensor) -> Tensor | None:
        """Return which pixels of a picture are observed by a mask that comes with it, bool [H, W], or None.

        That is its transparency, where no other mask is given, or a mask file of its own size before it is cropped.
        """
        options, size = self.options, tuple(photo.shape[1:])
        if options.task != "inpaint" or options.rate is not None:
            return None
        if options.mask is None:
            own = photo[3] >= WHITE_FROM
            if own.all():
                raise UserError(f"{path} has no transparent pixels: give --mask, --rate, or a picture that has some")
            return own
        is_changed = self.aligner is not None or (self.fitted and size != (self.side, self.side))
        return mask_from_file(options.mask, *size) if is_changed and mask_size(options.mask) == size else None

    def _framed(self, path: Path, photo: Tensor, side: int) -> Tensor:
        if self.fitted:
            note_fit(self.notes, str(path), photo, side)
            return fit(photo, side)
        if photo.shape[1:] != (side, side):
            height, width = photo.shape[1:]
            raise UserError(
                f"{path} is {height}x{width} pixels, expected are {side}x{side}: prepare it so, add "
                "--fit, or of a face --align ffhq"
            )
        return photo

    def _chosen(self, path: Path) -> tuple[Operator, OperatorRecipe]:
        """Return the operator of the options."""
        if b"" not in self._made:
            self._made[b""] = self.options.make(self.side)
        return self._made[b""]

    def _masked(self, path: Path, observed: Tensor) -> tuple[Operator, OperatorRecipe]:
        """Return the operator of a mask bool [R, R], the same one for equal masks."""
        key = observed.numpy().tobytes()
        if key not in self._made:
            if not observed.any():
                raise UserError(f"{path} has nothing but missing pixels: at least one must be observed")
            name = TRANSPARENCY if self.options.mask is None else Path(self.options.mask).name
            size = (3, self.side, self.side)
            recipe = OperatorRecipe("inpaint", size, {"mask": name}, self.options.operator_seed, mask=observed)
            self._made[key] = recipe.make(), recipe
        return self._made[key]


def files_in(folder: Path) -> list[Path]:
    """Return the pictures and .npy files in a folder: frame2 comes before frame10; hidden files are not looked at.

    Raises:
        UserError: There is none, or a file of another kind.
    """
    try:
        files = [path for path in folder.iterdir() if not path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise unreadable(folder, "folder", error) from error
    valid = (*EXTENSIONS, ARRAY)
    for path in files:
        if not path.is_file():
            what = "a link that leads nowhere" if path.is_symlink() else "a pipe, socket or device"
            raise UserError(f"{path} is {what}: take it out of the folder")
        if path.suffix.lower() not in valid:
            raise UserError(f"{path} is no picture or array: valid are {', '.join(valid)}; take it out of the folder")
    if not files:
        raise UserError(f"{folder} holds no pictures: valid are files {', '.join(valid)}")
    return sorted(files, key=lambda path: [int(w) if w.isdecimal() else w for w in re.split(r"(\d+)", path.name)])


def file_labels(measurements: Sequence[Measurement]) -> list[str]:
    """Return for each measurement what stands in the names of its files, none twice: the input's name, else a number.

    One measurement alone, if its input does not name it, needs none: "".
    """
    if len(measurements) == 1 and measurements[0].stem is None:
        return [""]
    stems = [as_label(one.stem or "") for one in measurements]
    whole = [as_label(one.name) if stem else "" for one, stem in zip(measurements, stems, strict=True)]
    for labels in (stems, whole):
        if len({label.lower() for label in labels}) == len(labels) and all(map(is_label, labels)):
            return labels
    return numbers(len(measurements))


def numbers(count: int) -> list[str]:
    """Return 000, 001, ...; of one, nothing."""
    return [""] if count == 1 else [f"{n:03d}" for n in range(count)]


def _stem(name: str) -> str:
    """Return a file's name without its ending: of ``y.npy[3]`` it is ``y-3``."""
    file, _, place = name.partition("[")
    return Path(file).stem + (f"-{place.rstrip(']')}" if place else "")


def _checked(path: Path, y: Tensor, operator: Operator) -> Tensor:
    try:
        operator.check_measurement(y)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if is_picture(operator.measurement_shape) and y.abs().max() > MOST_PICTURE_VALUE:
        raise UserError(f"{path} holds values up to {y.abs().max():g}: pictures are in [0, 1]; divide bytes by 255")
    return torch.where(operator.observed, y.float(), 0)


def _read_picture(path: Path, notes: PictureNotes) -> Tensor:
    return read_with_transparency(read_file(path, "picture"), str(path), notes)
