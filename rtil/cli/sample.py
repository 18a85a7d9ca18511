"""``python -m rtil sample``: a grid of samples, of the plain generator or of every branch."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rtil.branches import Branches, additive_branches, mixture_branches
from rtil.cli.common import given_names, run_command
from rtil.devices import pick_device
from rtil.errors import UserError
from rtil.evaluation.figures import image_grid, to_pillow
from rtil.files import atomic_path
from rtil.generators.base import LayeredGenerator
from rtil.ranges import to_unit
from rtil.seeds import generator
from rtil.snapshot import Snapshot, load_snapshot

COLUMNS = 8
CHUNK = 16
READABLE_PIXELS = 64


@dataclass
class SampleOptions:
    """Write a grid of samples.

    Args:
        snapshot: The prior: a run folder or a snapshot.
        count: Pictures; with branches, pictures in each row.
        truncation: Distance of styles from their mean, as a fraction: 1 is as trained, 0 the mean face. A generator
            without a mapping network (pggan) has no styles and draws as trained.
        branches: One row for each branch of RTIL, of the same latents: the plain generator first, then noise z1 of
            the trained sigma added at one cut more in each, or more and more codes mixed.
        seed: Root seed.
        device: auto, cpu, cuda or cuda:N.
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
        if self.snapshot is None:
            raise UserError("--snapshot RUN_OR_FILE is needed: --help says what it may be")
        if self.count < 1:
            raise UserError(f"count is {self.count}: valid is a whole number of 1 or more")
        if not 0 <= self.truncation < float("inf"):
            raise UserError(f"truncation is {self.truncation:g}: valid is a number >= 0, usually 0.5 to 1")
        if self.out.suffix.lower() != ".png" or self.out.is_dir():
            raise UserError(f"out is {self.out}: valid is the name of a .png file")

    def open(self) -> tuple[Snapshot, Branches | None]:
        """Return the prior, and its branches if they are wanted."""
        assert self.snapshot is not None  # noqa: S101
        snapshot = load_snapshot(self.snapshot, pick_device(self.device))
        if snapshot.generator.latent_space == "z" and "truncation" in given_names(self):
            raise UserError(f"{snapshot.path} has no styles to truncate: leave --truncation away")
        if not self.branches:
            return snapshot, None
        if not snapshot.info.get("rtil"):
            raise UserError(f"{snapshot.path} was trained without RTIL and has one branch: leave --branches away")
        return snapshot, branches_of(snapshot)


def branches_of(snapshot: Snapshot) -> Branches:
    """Return the branches that a snapshot was trained with."""
    info = snapshot.info
    if info.get("branches", "additive") == "additive":
        return additive_branches(True, snapshot.generator.num_blocks, float(info["sigma"]))
    return mixture_branches(True, int(info["resolution"]), info["codes"], int(info["mixture_side"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(run, SampleOptions, argv, "python -m rtil sample", plan)


def plan(options: SampleOptions) -> Iterator[str]:
    """Say what would be done."""
    snapshot, branches = options.open()
    rows = f" from each of {branches.count} branches" if branches else ""
    yield f"{options.count} samples{rows} of {snapshot.path} into {options.out}"


def run(options: SampleOptions) -> None:
    """Sample as asked for."""
    snapshot, branches = options.open()
    G = snapshot.generator
    x = samples(G, options.count, options.truncation, options.seed, branches).clamp(0, 1)
    factor = -(-READABLE_PIXELS // G.resolution)
    grid = image_grid(x, options.count if branches else min(options.count, COLUMNS))
    grid = grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    with atomic_path(options.out) as temporary:
        to_pillow(grid).save(temporary, format="PNG")
    print(f"wrote {options.out}: {len(x)} samples of {snapshot.path}")


@torch.no_grad()
def samples(G: LayeredGenerator, count: int, truncation: float, seed: int, branches: Branches | None = None) -> Tensor:
    """Return samples [count, 3, R, R] in [0, 1], not clamped; with branches [B * count, ...], branch by branch.

    Every branch has the same latents, noise maps and, as far as it reaches, z1; of mixtures the same first codes.
    """
    count_of_branch = branches.codes_of(torch.arange(branches.count)).tolist() if branches else [1]
    rows: list[list[Tensor]] = [[] for _ in count_of_branch]
    for first in range(0, count, CHUNK):
        n = min(CHUNK, count - first)
        rng = generator(seed, "sample", first)
        ws = G.truncate(G.mapping(G.draw_z(n * max(count_of_branch), rng)), truncation)
        ws = ws.unflatten(0, (-1, n))  # [codes n L D]
        noise = G.draw_noise(n, rng)
        for j, (codes, row) in enumerate(zip(count_of_branch, rows, strict=True)):
            of_branch = ws[:codes].transpose(0, 1).flatten(0, 1)
            if branches is None:
                x = G(of_branch, noise)
            else:
                injection = generator(seed, "sample/injection", first)
                x = branches.generate(G, of_branch, noise, torch.full((n,), j), injection)
            row.append(to_unit(x).cpu())
    return torch.cat([picture for row in rows for picture in row])


if __name__ == "__main__":
    sys.exit(main())
