"""``rtil render``: make the pictures of a reconstruction again from its ``result.safetensors``.

Where they were found, they are the same bit for bit; on another machine they differ by what rounding does. The file has
all but the weights, so ``--snapshot`` must be the one that was inverted.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtil.cli.common import Prepared, run_command
from rtil.errors import UserError


@dataclass
class RenderOptions:
    """Make the pictures of a reconstruction again.

    Args:
        result: The result.safetensors of a reconstruction.
        snapshot: The prior that was inverted: a run folder, a snapshot or another project's checkpoint.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(open_rendering, RenderOptions, argv, "rtil render")


def open_rendering(options: RenderOptions) -> Prepared:
    """Open the result and the prior that belongs to it."""
    from rtil.cli.measurements import numbers
    from rtil.cli.outputs import check_out_folder, owned_folder
    from rtil.cli.reconstruction_files import (
        PICTURE,
        SPREAD,
        WRITTEN_LEVEL,
        by_image,
        labelled,
        lines_of,
        write_pictures,
        write_spread,
    )
    from rtil.devices import pick_device
    from rtil.inverse.intervals import half_width
    from rtil.inverse.result_file import load_result
    from rtil.snapshot import load_snapshot

    path, prior, folder = options.result, options.snapshot, options.out
    assert path is not None and prior is not None and folder is not None  # noqa: S101, PT018
    check_out_folder(folder)
    result = load_result(path)
    snapshot = load_snapshot(prior, pick_device(options.device))
    try:
        operator = result.check_fits(snapshot)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    pictures = labelled(folder / PICTURE, result.labels or numbers(len(result.y)))
    if os.path.exists(pictures[0]):
        raise UserError(f"{pictures[0]} already exists: give another folder as --out")

    def render() -> None:
        with owned_folder(folder, pictures[0].name):
            x = result.render(snapshot)
            write_pictures(x, pictures)
            if result.spread is not None:
                half = half_width(result.spread, len(result.latents.ws), WRITTEN_LEVEL)
                write_spread(x.cpu(), result.spread, half, folder / SPREAD)
        errors = operator.to(x.device).error(x, result.y.to(x.device)).tolist()
        images = by_image({"status": result.status, "measurement_error": errors, "converged": result.latents.converged})
        print(*lines_of(pictures, images), sep="\n")

    what = f"{len(result.y)} x {result.recipe.task} by {result.method} of {snapshot.path}"
    return Prepared([f"render {what} into {folder}"], render)


if __name__ == "__main__":
    sys.exit(main())
