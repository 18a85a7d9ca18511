r"""``rtil convert FILE``: another project's checkpoint as a snapshot, or a snapshot as rosinality's.

What is read, what is refused, and how a card is written: docs/checkpoints.md. Nothing in the file is run. The snapshot
comes with a sheet of samples beside it, and one of them is inverted; the PSNR reached says whether the prior is whole.

    $ rtil convert stylegan2-ffhq-config-f.pt --licence "NVIDIA, non-commercial" --source https://...
    $ rtil convert shipped:rtil --to rosinality --out rtil.pt
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rtil.cli.common import Work, run_command
from rtil.errors import UserError

Target = Literal["snapshot", "rosinality"]
SUFFIXES: dict[Target, str] = {"snapshot": ".safetensors", "rosinality": ".pt"}


@dataclass
class ConvertOptions:
    """Convert a checkpoint of another project to a snapshot, or back.

    Args:
        file: The checkpoint. To rosinality: a run folder, a snapshot, a
            shipped prior (shipped:rtil), or another project's checkpoint.
        to: snapshot (.safetensors, ours) or rosinality (.pt: g_ema and latent_avg).
        out: The new file; null is the name of the old one with the new ending, in the current folder.
        licence: Licence of the weights, for the card.
        source: Where they come from, such as an address, for the card.
        self_test: Write a sheet of samples and invert one of them.
        steps: Steps of each of ILO's rounds in that inversion; one number stands for every round, and null for 25, or
            fewer where pictures are large.
        seed: Of samples and inversion.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
    """

    file: str
    to: Target = "snapshot"
    out: Path | None = None
    licence: str | None = None
    source: str | None = None
    self_test: bool = True
    steps: list[int] | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        suffix = SUFFIXES[self.to]
        if self.out is not None and self.out.suffix.lower() != suffix:
            raise UserError(f"out is {self.out}: valid for {self.to} is the name of a {suffix} file")
        if os.path.exists(self.target):
            raise UserError(f"{self.target} already exists: give another file as --out")
        if self.steps is not None and (not self.steps or min(self.steps) < 0):
            raise UserError(f"steps is {self.steps}: valid are whole numbers of 0 or more")

    @property
    def target(self) -> Path:
        """The new file."""
        stem = Path(self.file.replace("shipped:", "")).stem
        return self.out or Path(stem).with_suffix(SUFFIXES[self.to])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_conversion, ConvertOptions, argv, "rtil convert")


def open_conversion(options: ConvertOptions) -> Work:
    """Read the file, which takes heavier imports than the options do."""
    from rtil.cli.converting import Export, Import

    return Export(options) if options.to == "rosinality" else Import(options)


if __name__ == "__main__":
    sys.exit(main())
