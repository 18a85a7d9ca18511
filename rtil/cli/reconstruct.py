r"""``rtil reconstruct``: reconstruct a picture from the user's own measurement; no truth, so no PSNR.

A measurement is a picture that already is what was measured (low-resolution, noisy, blurred, grey, or with missing
pixels: by a mask file, white being observed, or by transparency), or numbers. A file of ``rtil measure`` has the recipe
of its operator beside them; an .npy file has not, so the options must say how it was made:

    $ rtil measure --task cs --rate 0.1 --operator_seed 7 --input photo.png --fit --out y.safetensors
    $ rtil reconstruct --input y.safetensors --snapshot RUN
    $ rtil reconstruct --task cs --rate 0.1 --operator_seed 7 --input y.npy --snapshot RUN

The files of a folder are measurements each for itself. The results' folder gets the pictures, with a sheet for each
(input, measurement, reconstruction, where measured, spread) and of masks an overlay; ``result.json``, to read;
``history.csv``, every term before each step; and ``result.safetensors``, the inversion itself, from which ``rtil
render`` makes the pictures again. The mean of several restarts (``--restarts 4 --combination mean``) comes with
``spread.png``, their standard deviation in each pixel and channel, from black (0) to white (see its label), and the
ends of their 90 % intervals (:mod:`rtil.inverse.intervals`), which ``--interval_scale`` widens by the factor that
``rtil eval --calibration`` found.

Warnings tell when the options do not seem to be those that measured (:mod:`rtil.inverse.consistency`), and when the
reconstruction explains its measurement no better than the prior's mean picture does.

``--start_from`` goes on where an earlier reconstruction ended: what its file holds (latents, noise maps, deviations) is
the start, so the first picture is its picture. With ``--sequence`` the files of a folder are frames: each starts from
the one before, and is written, with a result file of its own, as soon as it is done. The video mode of ILO's authors
moves the last cut only, 100 steps a frame, in small l1 balls around the frame before:

    $ rtil reconstruct --input frames/000.png --snapshot RUN --out first
    $ rtil reconstruct --sequence --input frames --snapshot RUN --start_from first/result.safetensors \
        --steps 0,0,0,100 --radius_feature 200 --radius_latent 200 --radius_noise 5

Without ``--start_from`` the first frame starts as usual; ``--frame_steps 0,0,0,100`` are the steps of the others.
"""

import dataclasses
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rtil.cli.common import Work, run_command
from rtil.cli.operator_options import OperatorOptions
from rtil.errors import UserError, unknown
from rtil.evaluation.candidates import Budget, short_names, standard_settings
from rtil.inverse.registry import settings_class
from rtil.inverse.settings import SolverSettings

RESULT = "result.json"


@dataclass
class ReconstructOptions(Budget, OperatorOptions):
    """Reconstruct pictures from your own measurements.

    Args:
        input: A picture that is the measurement itself (sr: of side R / factor, else of side R; colorize: its luma
            counts; inpaint without rate and mask: its transparent pixels are missing); a file of rtil measure, which
            knows its task; an .npy file with one or N measurements, pictures in [0, 1]; or a folder of pictures and
            .npy files, each of which is one for itself.
        snapshot: The prior: a run folder, a snapshot, another project's checkpoint, shipped:vanilla or shipped:rtil;
            null is the newest training in runs/train, or shipped:rtil where there is none.
        fit: Crop an input picture to its central square and resize it to the side that the task expects; a mask file
            of the picture's own size is treated alike.
        align: In place of fit: find the face in an input picture and crop it as ffhq (and CelebA-HQ) or celeba (the
            central square of its aligned pictures) has it, mirrored beyond the borders; placed.png is the photograph
            with the reconstruction in its place. Needs the extra align, whose model of landmarks excludes commercial
            use.
        method: ilo, csgm, langevin, multicut, pulse, sparse, mganprior, or one that an installed package adds.
        seed: Root seed of the solver.
        start_from: The result.safetensors of an earlier reconstruction of as many similar pictures, by this snapshot,
            where to start; one attempt is made from each that it holds, in place of restarts.
        sequence: The measurements are frames, in the order of their names (frame2 before frame10) or in the .npy file:
            the first starts from start_from, or as usual, and each of the others from the one before.
        frame_steps: Steps, as in steps, of frames that start from one before; null is as the first.
        frames: Write frames.png, an animated PNG of the optimisation, for each picture: at most this many frames,
            evenly spaced iterates from the start and the reconstruction at last; null is none.
        interval_scale: Factor by which the 90 % intervals of spread.png are widened: rtil eval --calibration finds it.
        batch: Pictures inverted at a time; null chooses by their size. Memory depends on it, the pictures do not,
            rounding aside.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
        out: Folder for the results; null is the next numbered one in runs/reconstruct.
    """

    input: Path | None = None
    snapshot: Path | None = None
    fit: bool = False
    align: Literal["ffhq", "celeba"] | None = None
    method: str = "ilo"
    seed: int = 0
    start_from: Path | None = None
    sequence: bool = False
    frame_steps: list[int] | None = None
    frames: int | None = None
    interval_scale: float = 1.0
    batch: int | None = None
    device: str = "auto"
    out: Path | None = None
    settings: dict[str, SolverSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.input is None:
            raise UserError("--input FILE is needed: --help says what it may be")
        if self.fit and self.align is not None:
            raise UserError("fit and align both say how pictures are cropped: leave one of them away")
        self.settings = standard_settings() | self.settings
        if self.method not in self.settings:
            raise unknown("method", self.method, self.settings)
        if len(self.codes) > 1:
            raise UserError(f"codes is {','.join(map(str, self.codes))}: give one number, there is one reconstruction")
        restarts = self.settings[self.method].restarts
        for name in ("frames", "start_from"):
            if getattr(self, name) is not None and restarts > 1:
                what = "frames show one attempt" if name == "frames" else "start_from has its own attempts"
                raise UserError(f"{what} but restarts is {restarts}: leave one of them away")
        if not (math.isfinite(self.interval_scale) and self.interval_scale > 0):
            raise UserError(f"interval_scale is {self.interval_scale:g}: valid is a number above 0")
        if self.frame_steps is not None and not self.sequence:
            raise UserError("frame_steps are those of a sequence: add --sequence, or give steps")
        if self.batch is not None and self.sequence:
            raise UserError(f"batch is {self.batch} but a sequence is inverted frame by frame: leave one of them away")
        if self.out is not None and os.path.exists(self.out / RESULT):
            raise UserError(f"{self.out} already holds {RESULT}: give another folder as --out")

    @property
    def input_path(self) -> Path:
        """The measurement's file."""
        assert self.input is not None  # noqa: S101
        return self.input

    def table(self) -> dict[str, Any]:
        """Return the options as JSON values; of the methods' settings those that count."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "settings"}
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
        return plain | {self.method: self.settings[self.method].to_json()}


def open_reconstruction(options: ReconstructOptions) -> Work:
    """Open prior, inverter and measurements, which takes heavier imports than the options do."""
    from rtil.cli.reconstructing import Reconstructing

    return Reconstructing(options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    nested = {name: settings_class(name) for name in standard_settings()}
    prog = "rtil reconstruct"
    return run_command(open_reconstruction, ReconstructOptions, argv, prog, nested=nested, short=short_names())


if __name__ == "__main__":
    sys.exit(main())
