"""``rtil merge``: join the shards of an evaluation, and write its tables, curves and grids.

    $ rtil merge runs/eval/mine
    $ rtil merge from-machine-a from-machine-b --out all

It tells which rows are missing, and which shards would compute them; which are there twice; and which are of other
settings, weights or pictures and so left out. The checkpoints and pictures of the evaluation are opened, for the list
of what should be there and for the grids; nothing is inverted, so that needs no GPU.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtil.cli.common import Prepared, run_command
from rtil.errors import UserError


@dataclass
class MergeOptions:
    """Join the rows that the shards of an evaluation wrote, and write its tables, curves and grids.

    Args:
        folders: Where they are, one folder or more.
        out: Folder for the joined evaluation; null is the (one) folder itself. In a new one the others stay as they
            are, so that one can have a look while shards are at work.
        incomplete: Write tables although rows are missing; without it that is an error, and nothing is written.
    """

    folders: list[Path]
    out: Path | None = None
    incomplete: bool = False

    def __post_init__(self) -> None:
        if not self.folders or len({folder.resolve() for folder in self.folders}) != len(self.folders):
            raise UserError("folders is empty or names one twice: give each folder once")
        if len(self.folders) > 1 and self.out is None:
            raise UserError("several folders need --out: give a new folder for all of them")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    logging.basicConfig(format="%(message)s")
    return run_command(open_merging, MergeOptions, argv, "rtil merge")


def open_merging(options: MergeOptions) -> Prepared:
    """Open the evaluation of the folders, which must be one."""
    from rtil.cli.merging import Merging

    merging = Merging(options)
    return Prepared(list(merging.plan()), merging.run)


if __name__ == "__main__":
    sys.exit(main())
