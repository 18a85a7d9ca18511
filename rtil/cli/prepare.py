"""``rtil prepare``: turn a folder or any zip of pictures into the zip that training reads.

With ``--align`` faces are cropped as FFHQ or CelebA have them, and OUT-framing.png shows the first pictures and their
mean; with ``--snapshot`` beside those of a prior, whose faces should have the same size and place:

    $ rtil prepare photos faces.zip --resolution 64 --align ffhq --snapshot RUN
"""

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtil.cli.common import Prepared, run_command
from rtil.errors import Notice, UserError, printable

SHOWN = 10
"""Pictures that were left out are named, if they are not more."""


@dataclass
class PrepareOptions:
    """Pack the pictures of a folder or zip into an uncompressed zip with a manifest.

    Args:
        source: Folder or zip of pictures.
        out: The .zip file to write; an existing one is replaced when the new one is complete.
        resolution: Side in pixels to crop and resize to; null stores files as they are.
        align: Find the face in each picture and crop it as ffhq (and CelebA-HQ) or celeba (the central square of its
            aligned pictures) has it, mirrored beyond the borders; needs a resolution, and the extra align, whose model
            of landmarks excludes commercial use.
        snapshot: A prior to compare the framing with, as in reconstruct; of the same resolution.
        on_bad_image: Stop at a picture that cannot be read or shows no face to align, or leave it out: at most ten
            pictures or a hundredth of them, whichever is more, and less than half.
    """

    source: Path
    out: Path
    resolution: int | None = None
    align: Literal["ffhq", "celeba"] | None = None
    snapshot: Path | None = None
    on_bad_image: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        if self.out.suffix.lower() != ".zip" or os.path.isdir(self.out):
            raise UserError(f"out is {self.out}: give the name of a .zip file")
        if os.path.exists(self.out) and os.path.realpath(self.out) == os.path.realpath(self.source):
            raise UserError(f"out {self.out} is also the source: give another name")
        if self.resolution is not None and self.resolution < 1:
            raise UserError(f"resolution is {self.resolution}: valid is a positive number of pixels")
        for name in ("align", "snapshot"):
            if getattr(self, name) is not None and self.resolution is None:
                raise UserError(f"{name} needs a resolution: add --resolution")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_preparation, PrepareOptions, argv, "rtil prepare")


def open_preparation(options: PrepareOptions) -> Prepared:
    """Open the source, and what it is aligned by and compared with."""
    from rtil.cli.outputs import check_out_file
    from rtil.data.images import check_side
    from rtil.data.landmarks import FaceAligner
    from rtil.data.picture_notes import PictureNotes
    from rtil.data.prepare import equal_ones, prepare
    from rtil.data.stores import open_store

    check_out_file(options.out)
    if options.resolution is not None:
        check_side(options.resolution)

    store = open_store(options.source, allow_compressed=True)
    aligner = None if options.align is None else FaceAligner(options.align)
    prior = None
    if options.snapshot is not None:
        from rtil.cli.framing import open_prior

        prior = open_prior(options.snapshot, options.resolution)

    notes = PictureNotes()

    def pack() -> None:
        skip = options.on_bad_image == "skip"
        pictures, skipped = prepare(store, options.out, options.resolution, skip, aligner, notes)
        for entry in skipped[:SHOWN]:
            print(printable(f"skipped {entry.name!r}: {entry.reason}"))
        if len(skipped) > SHOWN:
            print(f"skipped {len(skipped) - SHOWN} others: manifest.json in {options.out} names them")
        for line in (*notes.lines(), *equal_ones(pictures)):
            warnings.warn(line, Notice, stacklevel=1)
        if aligner is not None and aligner.several:
            several = sorted(aligner.several)
            print(f"{len(several)} pictures have several faces, of which the largest was taken; first: {several[0]!r}")
        if aligner is not None or prior is not None:
            from rtil.cli.framing import write_framing

            write_framing(options.out, prior, str(options.snapshot))
        size = options.out.stat().st_size / 1e6
        print(f"{options.out.as_posix()}: {len(pictures)} images, {len(skipped)} skipped, {size:.1f} MB")

    side = "as they are" if options.resolution is None else f"at {options.resolution} px"
    side += "" if options.align is None else f", faces as in {options.align},"
    return Prepared([f"pack {len(store.names)} pictures of {options.source} {side} into {options.out}"], pack)


if __name__ == "__main__":
    sys.exit(main())
