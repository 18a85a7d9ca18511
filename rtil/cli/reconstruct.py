r"""``python -m rtil reconstruct``: reconstruct a picture from the user's own measurement; no truth, so no PSNR.

A measurement is a picture that already is what was measured (low-resolution, noisy, blurred, with missing pixels, or
grey), or an .npy file, without which there is no cs, gaussian, mri, fourier and phase. Colorization keeps the measured
luma. This is how a measurement is made, by the operator of the same task, rate and seed:

    operator = make_operator("cs", (3, 32, 32), rate=0.1, seed=7)
    numpy.save("y.npy", operator(x).numpy())  # x [N, 3, 32, 32] in [0, 1]; y [N, M]
    $ python -m rtil reconstruct --task cs --rate 0.1 --operator_seed 7 --input y.npy --snapshot RUN

The folder gets the pictures; ``result.json``, to read; ``history.csv``, every term before each step; and
``result.safetensors``, the inversion itself, from which ``python -m rtil render`` makes the pictures again. The mean of
several restarts (``--restarts 4 --combination mean``) comes with ``spread.png``, their standard deviation in each pixel
and channel, from black (0) to white (see its label).

``--start_from`` goes on where an earlier reconstruction ended: what its file holds (latents, noise maps, deviations) is
the start, so the first picture is its picture. With ``--sequence`` the files of a folder are frames: each starts from
the one before, and is written, with a result file of its own, as soon as it is done. The video mode of ILO's authors
moves the last cut only, 100 steps a frame, in small l1 balls around the frame before:

    $ python -m rtil reconstruct --input frames/000.png --snapshot RUN --out first
    $ python -m rtil reconstruct --sequence --input frames --snapshot RUN --start_from first/result.safetensors \
        --steps 0,0,0,100 --radius_feature 200 --radius_latent 200 --radius_noise 5

Without ``--start_from`` the first frame starts as usual; ``--frame_steps 0,0,0,100`` are the steps of the others.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from rtil.cli.common import given_names, run_command
from rtil.cli.measurements import read_measurement, read_sequence
from rtil.cli.reconstruction_files import (
    FRAMES,
    HISTORY,
    PICTURE,
    RESULT,
    RESULT_FILE,
    SPREAD,
    images_of,
    lines_of,
    numbered,
    sha256_of,
    write_pictures,
    write_spread,
)
from rtil.devices import pick_device
from rtil.errors import UserError, unknown
from rtil.evaluation.batches import Batches
from rtil.evaluation.methods import SolverOptions, composing_as_trained
from rtil.files import write_text
from rtil.inverse.frames import FrameRecorder, write_animation
from rtil.inverse.history import write_history
from rtil.inverse.losses import measurement_error
from rtil.inverse.operators import OPERATORS, Operator
from rtil.inverse.perceptual import Perceptual
from rtil.inverse.recipe import OperatorRecipe, make_with_recipe
from rtil.inverse.result import Inversion, join_batches
from rtil.inverse.result_file import ResultFile, load_result, save_result
from rtil.inverse.solver import Selection, Solver
from rtil.runs import new_run
from rtil.snapshot import Snapshot, load_snapshot

RECONSTRUCT_RUNS = Path("runs/reconstruct")


class Inverter(NamedTuple):
    """A solver, and its arguments and seed as a result file keeps them."""

    solver: Solver
    settings: dict[str, Any]


class Place(NamedTuple):
    """Where to start: the latents of an earlier reconstruction, and the SHA-256 of its result file."""

    latents: dict[str, Tensor]
    sha256: str


class Prepared(NamedTuple):
    """What an inversion needs.

    Attributes:
        snapshot: The prior.
        first: What inverts measurements that start as usual.
        following: What inverts those that start from an earlier reconstruction.
        operator: What measured.
        recipe: How that is made.
        y: Measurements [N, ...].
        names: Of the N inputs.
        batches: How many are inverted at a time.
        start: Where the (first) measurements start; None as usual.
    """

    snapshot: Snapshot
    first: Inverter
    following: Inverter
    operator: Operator
    recipe: OperatorRecipe
    y: Tensor
    names: list[str]
    batches: Batches
    start: Place | None


@dataclass
class ReconstructOptions(SolverOptions):
    """Reconstruct pictures from your own measurements.

    Args:
        input: A picture that is the measurement itself (sr: of side R / factor, else of side R; colorize: its luma
            counts), or an .npy file with one or N measurements, pictures in [0, 1]; of a sequence, a folder of them.
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
        method: ilo, csgm, pulse, sparse or mganprior.
        selection: Which iterate is returned.
        seed: Root seed of the solver.
        start_from: The result.safetensors of an earlier reconstruction of as many similar pictures, by this snapshot,
            where to start; one attempt is made from each that it holds, in place of restarts.
        sequence: The measurements are frames, in the order of their names (frame2 before frame10) or in the .npy file:
            the first starts from start_from, or as usual, and each of the others from the one before.
        frame_steps: Steps, as in steps, of frames that start from one before; null is as the first.
        frames: Write frames.png, an animated PNG of the optimisation, for each picture: at most this many frames,
            evenly spaced iterates from the start and the reconstruction at last; null is none.
        batch: Pictures inverted at a time; null chooses by their size. Memory depends on it, the pictures do not,
            rounding aside.
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
    start_from: Path | None = None
    sequence: bool = False
    frame_steps: list[int] | None = None
    frames: int | None = None
    batch: int | None = None
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
        if self.start_from is not None and self.restarts > 1:
            raise UserError(f"start_from has its own attempts but restarts is {self.restarts}: leave one of them away")
        if self.frame_steps is not None and not self.sequence:
            raise UserError("frame_steps are those of a sequence: add --sequence, or give steps")
        if self.batch is not None and self.sequence:
            raise UserError(f"batch is {self.batch} but a sequence is inverted frame by frame: leave one of them away")
        if not self.sequence and self.input_path.is_dir():
            raise UserError(f"{self.input} is a folder: add --sequence if its files are frames, or give one file")
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
        self.check_used([self.method], given_names(self))
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
        has_term = self.has_perceptual_term(self.method, operator)
        perceptual = self.open_perceptual(self.method, device) if has_term else None
        if perceptual is not None:
            perceptual.check_size(operator.measurement_shape)
        first = following = self._inverter(snapshot, perceptual)
        if self.frame_steps is not None:
            later = replace(self, steps=self.frame_steps, steps_preset=None, rounds=None)
            following = later._inverter(snapshot, perceptual)
        if self.sequence:
            y, names = read_sequence(self.input_path, operator, self.fit)
        else:
            y = read_measurement(self.input_path, operator, self.fit)
            names = [self.input_path.name] * len(y)
        start = self._start(snapshot, following.solver, 1 if self.sequence else len(y))
        batches = Batches(self.batch, side, device)
        return Prepared(snapshot, first, following, operator.to(device), recipe, y.to(device), names, batches, start)

    def _inverter(self, snapshot: Snapshot, perceptual: Perceptual | None) -> Inverter:
        (series,) = self.series([self.method])
        options = composing_as_trained(self, snapshot, [snapshot])
        solver = options.solver(series, snapshot, self.selection, self.seed, perceptual)
        settings = options.arguments(series, snapshot, self.selection, perceptual is not None)
        return Inverter(solver, settings | {"seed": self.seed})

    def _start(self, snapshot: Snapshot, solver: Solver, pictures: int) -> Place | None:
        if self.start_from is None:
            return None
        earlier = load_result(self.start_from)
        earlier.check_snapshot(snapshot)
        if len(earlier.y) != pictures:
            what = "a sequence starts from" if self.sequence else f"{self.input} has"
            raise UserError(f"start_from {self.start_from} holds {len(earlier.y)} pictures but {what} {pictures}")
        solver.check_start(earlier.latents, pictures)
        attempts = len(earlier.latents["ws"])
        if self.frames is not None and attempts > 1:
            raise UserError(f"frames show one attempt but start_from holds {attempts}: leave one of them away")
        return Place(earlier.latents, sha256_of(self.start_from))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(run, ReconstructOptions, argv, "python -m rtil reconstruct", plan)


def plan(options: ReconstructOptions) -> Iterator[str]:
    """Say what would be done."""
    work = options.open()
    start = "" if options.start_from is None else f", starting from {options.start_from}"
    yield (
        f"reconstruct {len(work.y)} x {work.operator.label} from {options.input_path} with {options.method} of "
        f"{work.snapshot.path}{', as a sequence' if options.sequence else ''}{start}"
    )
    yield f"into {options.out or (RECONSTRUCT_RUNS / 'NNNNN-').as_posix() + description(options)}"


def run(options: ReconstructOptions) -> None:
    """Reconstruct as asked for."""
    work = options.open()
    count = len(work.y)
    groups = [range(n, n + 1) for n in range(count)] if options.sequence else [range(count)]
    out, start, seconds, images = options.out, work.start, 0.0, list[dict[str, Any]]()
    for number, group in enumerate(groups):
        inverter = work.first if start is None else work.following
        found, errors, animations = invert(work, inverter.solver, group, start, options.frames)
        out = out or new_run(RECONSTRUCT_RUNS, description(options))
        here = slice(group.start, group.stop)
        pictures = numbered(out / PICTURE, count)[here]
        write_pictures(found.x, pictures)
        for path, frames in zip(numbered(out / FRAMES, count)[here], animations, strict=bool(animations)):
            write_animation(frames, path)
        if found.spread is not None:
            write_spread(found.x, found.spread, numbered(out / SPREAD, len(groups))[number])
        write_history(numbered(out / HISTORY, len(groups))[number], found.history, work.names[here], group.start)
        settings = inverter.settings if start is None else inverter.settings | {"start_from": start.sha256}
        kept = ResultFile.of(found, work.y[here], work.recipe, work.snapshot, options.method, settings)
        result_file = numbered(out / RESULT_FILE, len(groups))[number]
        save_result(result_file, kept)
        images += images_of(found, work.names[here], pictures, errors)
        seconds += found.seconds
        print(*lines_of(pictures, images[here]), sep="\n", flush=True)
        start = Place(found.latents, sha256_of(result_file))
    assert out is not None  # noqa: S101  there is at least one measurement
    write_text(out / RESULT, json.dumps(result(options, work.snapshot, images, seconds), indent=2) + "\n")


def invert(
    work: Prepared, solver: Solver, group: range, start: Place | None, frames: int | None
) -> tuple[Inversion, list[float], list[Tensor]]:
    """Invert measurements that belong together, as many at a time as fit.

    Args:
        work: What is inverted.
        solver: The inverter.
        group: Their numbers among all measurements; what is drawn for them depends on these alone.
        start: Where they start; None as usual.
        frames: Most frames of an animation; None for none.

    Returns:
        The result, on the CPU; the measurement error of each picture; and its frames [T, 3, R, R], bytes, or none.
    """

    def of_batch(batch: Sequence[int]) -> tuple[Inversion, list[float], list[Tensor]]:
        images = slice(batch[0], batch[-1] + 1)
        recorder = None if frames is None else FrameRecorder(frames)
        place = slice(images.start - group.start, images.stop - group.start)
        latents = None if start is None else {name: t[:, place] for name, t in start.latents.items()}
        y = work.y[images]
        found = solver.invert(y, work.operator, [str(n) for n in batch], callback=recorder, start_from=latents)
        errors = measurement_error(work.operator, found.x, y).tolist()
        return found.to("cpu"), errors, [] if recorder is None else list(recorder.frames(found.x).unbind(1))

    parts = [part for _, part in work.batches.over(group, of_batch)]
    found = join_batches([found for found, _, _ in parts], sum(found.seconds for found, _, _ in parts))
    return found, [e for _, errors, _ in parts for e in errors], [f for _, _, shown in parts for f in shown]


def result(
    options: ReconstructOptions, snapshot: Snapshot, images: list[dict[str, Any]], seconds: float
) -> dict[str, object]:
    """Return what result.json holds."""
    given = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    return {
        "images": images,
        "seconds": seconds,
        "settings": given,
        "snapshot": {"path": str(snapshot.path), "weight_hash": snapshot.weight_hash, "info": snapshot.info},
    }


def description(options: ReconstructOptions) -> str:
    """Return the second half of a run folder's name."""
    return f"{options.method}-{options.task}"


if __name__ == "__main__":
    sys.exit(main())
