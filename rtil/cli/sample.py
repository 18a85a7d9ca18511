"""``rtil sample``: a grid of samples, of the plain generator or of every branch."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rtil.cli.common import Prepared, given_names, run_command
from rtil.errors import UserError

if TYPE_CHECKING:
    from rtil.branches import Branches
    from rtil.snapshot import Snapshot

COLUMNS = 8
READABLE_PIXELS = 64
BYTES_PER_PIXEL = 100
"""Memory that a sample and its place in the grid take."""


@dataclass
class SampleOptions:
    """Write a grid of samples.

    Args:
        snapshot: The prior: a run folder, a snapshot, another project's checkpoint, shipped:vanilla or shipped:rtil;
            null is the newest training in runs/train, or shipped:rtil where there is none.
        count: Pictures; with branches, pictures in each row.
        truncation: Distance of styles from their mean, as a fraction: 1 is as trained, 0 the mean face. A generator
            without a mapping network (pggan) has no styles and draws as trained.
        branches: One row for each branch of RTIL, of the same latents: the plain generator first, then noise z1 of
            the trained sigma added at one cut more in each, or more and more codes mixed.
        seed: Root seed.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
        out: PNG file.
    """

    snapshot: Path | None = None
    count: int = 16
    truncation: float = 0.7
    branches: bool = False
    seed: int = 0
    device: str = "auto"
    out: Path = Path("samples.png")

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"count is {self.count}: valid is a whole number of 1 or more")
        if not 0 <= self.truncation < float("inf"):
            raise UserError(f"truncation is {self.truncation:g}: valid is a number >= 0, usually 0.5 to 1")
        if self.out.suffix.lower() != ".png" or os.path.isdir(self.out):
            raise UserError(f"out is {self.out}: valid is the name of a .png file")

    def open(self) -> "tuple[Snapshot, Branches | None]":
        """Return the prior, and its branches if they are wanted."""
        from rtil.devices import pick_device
        from rtil.priors import chosen_prior
        from rtil.sampling import branches_of
        from rtil.snapshot import load_snapshot

        snapshot = load_snapshot(chosen_prior(self.snapshot), pick_device(self.device))
        if snapshot.generator.latent_space == "z" and "truncation" in given_names(self):
            raise UserError(f"{snapshot.path} has no styles to truncate: leave --truncation away")
        if not self.branches:
            return snapshot, None
        if not snapshot.info.get("rtil"):
            raise UserError(f"{snapshot.path} was trained without RTIL and has one branch: leave --branches away")
        return snapshot, branches_of(snapshot)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_samples, SampleOptions, argv, "rtil sample")


def open_samples(options: SampleOptions) -> Prepared:
    """Open the prior."""
    from rtil.budget import SHARE, available_bytes, check_memory
    from rtil.cli.outputs import check_out_file
    from rtil.pictures import image_grid, save_png
    from rtil.sampling import samples

    check_out_file(options.out)
    snapshot, branches = options.open()
    rows_of = branches.count if branches else 1
    bytes_each = BYTES_PER_PIXEL * rows_of * max(snapshot.generator.resolution, READABLE_PIXELS) ** 2
    most = int(SHARE * (available_bytes() or 0)) // bytes_each
    check_memory(bytes_each * options.count, f"count {options.count}", f"at most {most} fit")

    def sample() -> None:
        G = snapshot.generator
        x = samples(G, options.count, options.truncation, options.seed, branches).clamp(0, 1)
        factor = -(-READABLE_PIXELS // G.resolution)
        grid = image_grid(x, options.count if branches else min(options.count, COLUMNS))
        grid = grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        save_png(grid, options.out)
        print(f"wrote {options.out}: {len(x)} samples of {snapshot.path}")

    rows = f" from each of {branches.count} branches" if branches else ""
    return Prepared([f"{options.count} samples{rows} of {snapshot.path} into {options.out}"], sample)


if __name__ == "__main__":
    sys.exit(main())
