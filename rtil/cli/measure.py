r"""``rtil measure``: measure pictures, into a file that knows how that was done.

The file holds the measurements and the recipe of their operator, so who reconstructs from it names no task, rate or
seed, and one that contradicts the file is refused:

    $ rtil measure --input photo.png --fit --task cs --rate 0.1 --operator_seed 7 --out y.safetensors
    $ rtil reconstruct --input y.safetensors

Measurements that were made elsewhere become such a file by :func:`rtil.inverse.measurement_file.save_measurement`.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtil.cli.common import Prepared, run_command
from rtil.cli.operator_options import OperatorOptions
from rtil.errors import Notice, UserError

ENDING = ".safetensors"


@dataclass
class MeasureOptions(OperatorOptions):
    """Measure pictures.

    Args:
        input: A picture, an .npy file of one or N pictures [3, R, R] in [0, 1], or a folder of such files.
        snapshot: The prior whose side R the pictures are to have: a run folder, a snapshot, another project's
            checkpoint, shipped:vanilla or shipped:rtil; null is the newest training in runs/train, or shipped:rtil
            where there is none.
        resolution: R in pixels, in place of a prior.
        fit: Crop pictures to their central square and resize it to R; a mask file of a picture's own size is treated
            alike.
        noise_sigma: Standard deviation of Gaussian noise on the measurements, where pictures are in [0, 1]; it is drawn
            by operator_seed and the picture's place.
        out: The .safetensors file to write.
    """

    input: Path | None = None
    snapshot: Path | None = None
    resolution: int | None = None
    fit: bool = False
    noise_sigma: float = 0.0
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.input is None or self.out is None:
            raise UserError("--input PICTURE and --out FILE.safetensors are needed: --help says what they may be")
        if self.input.suffix.lower() == ENDING:
            raise UserError(f"{self.input} holds measurements already: give a picture, an .npy file or a folder")
        if self.out.suffix != ENDING or os.path.isdir(self.out):
            raise UserError(f"out is {self.out}: valid is the name of a {ENDING} file")
        if os.path.exists(self.out):
            raise UserError(f"out {self.out} already exists: give another name")
        if self.resolution is not None and self.snapshot is not None:
            raise UserError("resolution and snapshot both say which side pictures have: leave one of them away")
        if self.resolution is not None and self.resolution < 1:
            raise UserError(f"resolution is {self.resolution}: valid is a positive number of pixels")

    def side(self) -> int:
        """Return R."""
        from rtil.priors import chosen_prior
        from rtil.snapshot import load_snapshot

        return self.resolution or load_snapshot(chosen_prior(self.snapshot)).generator.resolution


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_measuring, MeasureOptions, argv, "rtil measure")


def open_measuring(options: MeasureOptions) -> Prepared:
    """Read the pictures and make the operator."""
    import torch

    from rtil.cli.measurements import MeasurementReader
    from rtil.cli.outputs import check_out_file
    from rtil.data.images import check_side
    from rtil.inverse.measurement_file import save_measurement

    assert options.input is not None and options.out is not None  # noqa: S101, PT018
    path, out = options.input, options.out
    check_out_file(out)
    if options.resolution is not None:
        check_side(options.resolution)
    side = options.side()
    if options.task == "inpaint" and options.rate is None:  # then what is missing is read along with the picture
        reader = MeasurementReader(options, (), side, options.fit)
        pictures = reader.read(path)
        if len({id(picture.operator) for picture in pictures}) > 1:
            raise UserError(f"the pictures of {path} have several masks but a file has one: measure each on its own")
        recipe = replace(pictures[0].recipe, noise_sigma=options.noise_sigma)
    else:
        recipe = options.make(side, options.noise_sigma)[1]
        reader = MeasurementReader(OperatorOptions(), (), side, options.fit)
        pictures = reader.read(path)
    for line in reader.notes.lines():
        warnings.warn(line, Notice, stacklevel=1)
    operator = recipe.make()
    numbers = " x ".join(map(str, operator.measurement_shape))

    def measure() -> None:
        y = operator(torch.stack([picture.y for picture in pictures]))
        save_measurement(out, y, recipe, [picture.name for picture in pictures])
        print(f"wrote {out.as_posix()}: {len(y)} x {operator.label}, {numbers} numbers each, for rtil reconstruct")

    return Prepared([f"measure {len(pictures)} pictures of {path}, {operator.label}, into {out}"], measure)


if __name__ == "__main__":
    sys.exit(main())
