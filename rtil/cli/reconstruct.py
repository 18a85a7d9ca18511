"""``python -m rtil reconstruct``: reconstruct a picture from the user's own measurement; no truth, so no PSNR.

A measurement is a picture that already is what was measured (low-resolution, noisy, blurred, with missing pixels, or
grey), or an .npy file, without which there is no cs, gaussian, mri, fourier and phase. Colorization keeps the measured
luma. This is how a measurement is made, by the operator of the same task, rate and seed:

    operator = make_operator("cs", (3, 32, 32), rate=0.1, seed=7)
    numpy.save("y.npy", operator(x).numpy())  # x [N, 3, 32, 32] in [0, 1]; y [N, M]
    $ python -m rtil reconstruct --task cs --rate 0.1 --operator_seed 7 --input y.npy --snapshot RUN

The folder gets the pictures; ``result.json``, to read; and ``result.safetensors``, the inversion itself, from which
``python -m rtil render`` makes the pictures again. The mean of several restarts (``--restarts 4 --combination mean``)
comes with ``spread.png``, their standard deviation in each pixel and channel, from black (0) to white (see its label).
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rtil.cli.common import run_command
from rtil.data.images import fit, read_image
from rtil.devices import pick_device
from rtil.errors import UserError, unknown
from rtil.evaluation.figures import picture_grid, to_pillow
from rtil.evaluation.methods import SolverOptions, composing_as_trained
from rtil.files import atomic_path, write_text
from rtil.inverse.frames import FrameRecorder, write_animation
from rtil.inverse.losses import measurement_error
from rtil.inverse.operators import OPERATORS, Operator
from rtil.inverse.perceptual import is_picture
from rtil.inverse.recipe import OperatorRecipe, make_with_recipe
from rtil.inverse.result import Inversion
from rtil.inverse.result_file import ResultFile, save_result
from rtil.inverse.solver import Selection, Solver
from rtil.runs import new_run
from rtil.snapshot import Snapshot, load_snapshot

RECONSTRUCT_RUNS = Path("runs/reconstruct")
RESULT = "result.json"
RESULT_FILE = "result.safetensors"
PICTURE = "reconstruction.png"
FRAMES = "frames.png"
SPREAD = "spread.png"
MOST_PICTURE_VALUE = 4.0
"""Noise aside, pictures are in [0, 1]; far above that they are on another scale."""


class Prepared(NamedTuple):
    """What an inversion needs.

    Attributes:
        snapshot: The prior.
        solver: The inverter.
        settings: Its arguments and seed.
        operator: What measured.
        recipe: How that is made.
        y: Measurements [N, ...].
    """

    snapshot: Snapshot
    solver: Solver
    settings: dict[str, Any]
    operator: Operator
    recipe: OperatorRecipe
    y: Tensor


@dataclass
class ReconstructOptions(SolverOptions):
    """Reconstruct pictures from your own measurements.

    Args:
        input: A picture that is the measurement itself (sr: of side R / factor, else of side R; colorize: its luma
            counts), or an .npy file with one or N measurements, pictures in [0, 1].
        task: cs, inpaint, box, sr, denoise, colorize, inversion, blur, motion, gaussian, mri, fourier or phase.
        snapshot: The prior: a run folder or a snapshot.
        rate: Observed fraction (cs, gaussian, mri, fourier, box, and inpaint without a mask).
        factor: Factor of sr.
        sigma: Noise of denoise, on the 0-255 scale.
        mask: Mask file of inpaint: white is observed.
        width: Standard deviation of blur, in pixels.
        length: Length of motion, in pixels.
        exposures: Number of coded masks of phase.
        operator_seed: Seed of the operator that measured (cs, gaussian, mri, fourier, motion, phase; inpaint by rate).
        fit: Crop an input picture to its central square and resize it to the side that the task expects.
        method: ilo, csgm, pulse or mganprior.
        selection: Which iterate is returned.
        seed: Root seed of the solver.
        frames: Write frames.png, an animated PNG of the optimisation, for each picture: at most this many frames,
            evenly spaced iterates from the start and the reconstruction at last; null is none.
        device: auto, cpu, cuda or cuda:N.
        out: Folder for the results; null is the next numbered one in runs/reconstruct.
    """

    input: Path | None = None
    task: str = "inversion"
    snapshot: Path | None = None
    rate: float | None = None
    factor: int | None = None
    sigma: float | None = None
    mask: str | None = None
    width: float | None = None
    length: float | None = None
    exposures: int | None = None
    operator_seed: int = 0
    fit: bool = False
    method: str = "ilo"
    selection: Selection = "measurement"
    seed: int = 0
    frames: int | None = None
    device: str = "auto"
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.input is None or self.snapshot is None:
            missing = "input FILE" if self.input is None else "snapshot RUN_OR_FILE"
            raise UserError(f"--{missing} is needed: --help says what it may be")
        if self.task not in OPERATORS:
            raise unknown("task", self.task, OPERATORS)
        if len(self.series([self.method])) > 1:
            raise UserError(f"codes is {','.join(map(str, self.codes))}: give one number, there is one reconstruction")
        if self.frames is not None:
            FrameRecorder(self.frames)
            if self.restarts > 1:
                raise UserError(f"frames show one attempt but restarts is {self.restarts}: leave one of them away")
        if self.out is not None and (self.out / RESULT).exists():
            raise UserError(f"{self.out} already holds {RESULT}: give another folder as --out")

    @property
    def input_path(self) -> Path:
        """The measurement's file."""
        assert self.input is not None  # noqa: S101
        return self.input

    def open(self) -> Prepared:
        """Return prior, inverter, operator and measurements."""
        assert self.snapshot is not None  # noqa: S101
        device = pick_device(self.device)
        snapshot = load_snapshot(self.snapshot, device)
        side = snapshot.generator.resolution
        operator, recipe = make_with_recipe(
            self.task,
            (3, side, side),
            rate=self.rate,
            factor=self.factor,
            sigma=self.sigma,
            mask=self.mask,
            width=self.width,
            length=self.length,
            exposures=self.exposures,
            seed=self.operator_seed,
        )
        perceptual = None
        if is_picture(operator.measurement_shape):
            perceptual = self.open_perceptual([self.method], device)
        if perceptual is not None:
            perceptual.check_size(operator.measurement_shape)
        (series,) = self.series([self.method])
        options = composing_as_trained(self, snapshot, [snapshot])
        solver = options.solver(series, snapshot, self.selection, self.seed, perceptual)
        settings = options.arguments(series, snapshot, self.selection, perceptual is not None) | {"seed": self.seed}
        y = read_measurement(self.input_path, operator, self.fit)
        return Prepared(snapshot, solver, settings, operator.to(device), recipe, y.to(device))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(run, ReconstructOptions, argv, "python -m rtil reconstruct", plan)


def plan(options: ReconstructOptions) -> Iterator[str]:
    """Say what would be done."""
    work = options.open()
    yield (
        f"reconstruct {len(work.y)} x {work.operator.label} from {options.input_path} with {options.method} of "
        f"{work.snapshot.path}"
    )
    yield f"into {options.out or (RECONSTRUCT_RUNS / 'NNNNN-').as_posix() + description(options)}"


def run(options: ReconstructOptions) -> None:
    """Reconstruct as asked for."""
    work = options.open()
    recorder = None if options.frames is None else FrameRecorder(options.frames)
    found = work.solver.invert(work.y, work.operator, callback=recorder)
    out = options.out or new_run(RECONSTRUCT_RUNS, description(options))
    pictures = write_pictures(found.x, out)
    if recorder is not None:
        for path, frames in zip(numbered(out / FRAMES, len(found.x)), recorder.frames(found.x).unbind(1), strict=True):
            write_animation(frames, path)
    if found.spread is not None:
        write_spread(found.x, found.spread, out / SPREAD)
    saved = ResultFile.of(found, work.y, work.recipe, work.snapshot, options.method, work.settings)
    save_result(out / RESULT_FILE, saved)
    errors = measurement_error(work.operator, found.x, work.y).tolist()
    write_text(out / RESULT, json.dumps(result(options, work.snapshot, found, errors, pictures), indent=2) + "\n")
    for picture, error, status in zip(pictures, errors, found.status, strict=True):
        print(f"{picture}: {status}, measurement error {error:.3g}")


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
    if path.suffix.lower() == ".npy":
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


def numbered(path: Path, count: int) -> list[Path]:
    """Return a file name for each of several pictures: ``path`` itself for one, else ``name-000.png``, ...

    Example:
        >>> [path.name for path in numbered(Path("out/frames.png"), 2)]
        ['frames-000.png', 'frames-001.png']
    """
    return [path] if count == 1 else [path.with_stem(f"{path.stem}-{n:03d}") for n in range(count)]


def write_pictures(x: Tensor, out: Path) -> list[Path]:
    """Write pictures [N, 3, R, R] as ``reconstruction.png``, numbered when there are several."""
    paths = numbered(out / PICTURE, len(x))
    for path, picture in zip(paths, x, strict=True):
        with atomic_path(path) as temporary:
            to_pillow(picture).save(temporary, format="PNG")
    return paths


def write_spread(x: Tensor, spread: Tensor, path: Path) -> None:
    """Write means and their spread, [N, 3, R, R] each, side by side; the label says which standard deviation is white.

    White is the largest of all pictures, rounded up to two digits; a colour is that of the channels that vary.
    """
    largest = spread.max().item()
    digits = 1 - math.floor(math.log10(largest)) if largest else 0
    white = math.ceil(largest * 10**digits) / 10**digits or 1.0
    picture_grid({"mean": x, f"std to {white:g}": spread / white}, path)


def result(
    options: ReconstructOptions, snapshot: Snapshot, found: Inversion, errors: list[float], pictures: list[Path]
) -> dict[str, object]:
    """Return what result.json holds; errors are in the units of a mean squared error of pictures in [-1, 1].

    ``mean_spread`` is in those of pictures in [0, 1].
    """
    given = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    images: list[dict[str, Any]] = [
        {"picture": picture.name, "status": status, "measurement_error": error}
        for picture, status, error in zip(pictures, found.status, errors, strict=True)
    ]
    if found.spread is not None:
        for image, spread in zip(images, found.spread.flatten(1).mean(1).tolist(), strict=True):
            image["mean_spread"] = spread
    return {
        "images": images,
        "seconds": found.seconds,
        "settings": given,
        "snapshot": {"path": str(snapshot.path), "weight_hash": snapshot.weight_hash, "info": snapshot.info},
    }


def description(options: ReconstructOptions) -> str:
    """Return the second half of a run folder's name."""
    return f"{options.method}-{options.task}"


if __name__ == "__main__":
    sys.exit(main())
