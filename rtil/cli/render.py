"""``python -m rtil render``: make the pictures of a reconstruction again from its ``result.safetensors``.

Where they were found, they are the same bit for bit; on another machine they differ by what rounding does. The file has
all but the weights, so ``--snapshot`` must be the one that was inverted.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtil.cli.common import Prepared, run_command
from rtil.cli.reconstruction_files import (
    PICTURE,
    SPREAD,
    by_image,
    lines_of,
    numbered,
    write_pictures,
    write_spread,
)
from rtil.devices import pick_device
from rtil.errors import UserError
from rtil.inverse.result_file import ResultFile, load_result
from rtil.snapshot import Snapshot, load_snapshot


@dataclass
class RenderOptions:
    """Make the pictures of a reconstruction again.

    Args:
        result: The result.safetensors of a reconstruction.
        snapshot: The prior that was inverted: a run folder or a snapshot.
        device: auto, cpu, cuda or cuda:N.
        out: Folder for the pictures.
    """

    result: Path | None = None
    snapshot: Path | None = None
    device: str = "auto"
    out: Path | None = None

    def __post_init__(self) -> None:
        needed = {"result FILE": self.result, "snapshot RUN_OR_FILE": self.snapshot, "out FOLDER": self.out}
        for name, value in needed.items():
            if value is None:
                raise UserError(f"--{name} is needed: --help says what it may be")

    @property
    def folder(self) -> Path:
        """Where the pictures go."""
        assert self.out is not None  # noqa: S101
        return self.out

    def open(self) -> tuple[ResultFile, Snapshot]:
        """Return the result and the prior that belongs to it."""
        assert self.result is not None and self.snapshot is not None  # noqa: S101, PT018
        result = load_result(self.result)
        snapshot = load_snapshot(self.snapshot, pick_device(self.device))
        result.check_snapshot(snapshot)
        first = numbered(self.folder / PICTURE, len(result.y))[0]
        if first.exists():
            raise UserError(f"{first} already exists: give another folder as --out")
        return result, snapshot


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_rendering, RenderOptions, argv, "python -m rtil render")


def open_rendering(options: RenderOptions) -> Prepared:
    """Open the result and its prior."""
    result, snapshot = options.open()

    def render() -> None:
        x = result.render(snapshot)
        pictures = numbered(options.folder / PICTURE, len(x))
        write_pictures(x, pictures)
        if result.spread is not None:
            write_spread(x.cpu(), result.spread, options.folder / SPREAD)
        errors = result.recipe.make().to(x.device).error(x, result.y.to(x.device)).tolist()
        images = by_image({"status": result.status, "measurement_error": errors, "converged": result.latents.converged})
        print(*lines_of(pictures, images), sep="\n")

    what = f"{len(result.y)} x {result.recipe.task} by {result.method} of {snapshot.path}"
    return Prepared([f"render {what} into {options.folder}"], render)


if __name__ == "__main__":
    sys.exit(main())
