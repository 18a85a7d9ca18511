"""``rtil prepare``: turn a folder or any zip of pictures into the zip that training reads."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtil.cli.common import Prepared, run_command
from rtil.errors import UserError


@dataclass
class PrepareOptions:
    """Pack the pictures of a folder or zip into an uncompressed zip with a manifest.

    Args:
        source: Folder or zip of pictures.
        out: The .zip file to write; an existing one is replaced when the new one is complete.
        resolution: Side in pixels to crop and resize to; null stores files as they are.
        on_bad_image: Stop at a picture that cannot be read, or leave it out: at most ten pictures or a hundredth of
            them, whichever is more, and less than half.
    """

    source: Path
    out: Path
    resolution: int | None = None
    on_bad_image: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        if self.out.suffix.lower() != ".zip" or os.path.isdir(self.out):
            raise UserError(f"out is {self.out}: give the name of a .zip file")
        if os.path.exists(self.out) and os.path.realpath(self.out) == os.path.realpath(self.source):
            raise UserError(f"out {self.out} is also the source: give another name")
        if self.resolution is not None and self.resolution < 1:
            raise UserError(f"resolution is {self.resolution}: valid is a positive number of pixels")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_preparation, PrepareOptions, argv, "rtil prepare")


def open_preparation(options: PrepareOptions) -> Prepared:
    """Open the source."""
    from rtil.data.prepare import prepare
    from rtil.data.stores import open_store

    store = open_store(options.source, allow_compressed=True)

    def pack() -> None:
        pictures, skipped = prepare(store, options.out, options.resolution, options.on_bad_image == "skip")
        for entry in skipped:
            print(f"skipped {entry.name!r}: {entry.reason}")
        size = options.out.stat().st_size / 1e6
        print(f"{options.out.as_posix()}: {len(pictures)} images, {len(skipped)} skipped, {size:.1f} MB")

    side = "as they are" if options.resolution is None else f"at {options.resolution} px"
    return Prepared([f"pack {len(store.names)} pictures of {options.source} {side} into {options.out}"], pack)


if __name__ == "__main__":
    sys.exit(main())
