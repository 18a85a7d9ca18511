"""Samples of a prior, of the plain generator or of every branch of RTIL."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rtil.branches import Branches, additive_branches, mixture_branches
from rtil.generators.base import LayeredGenerator
from rtil.ranges import to_unit
from rtil.seeds import generator
from rtil.snapshot import Snapshot

CHUNK = 16
PIXELS_AT_ONCE = CHUNK * 256**2
"""Of pictures that are made together; larger pictures are made fewer at a time, for memory."""


def branches_of(snapshot: Snapshot) -> Branches:
    """Return the branches that a snapshot was trained with."""
    info = snapshot.info
    if info.get("branches", "additive") == "additive":
        return additive_branches(True, snapshot.generator.num_blocks, float(info["sigma"]))
    return mixture_branches(True, int(info["resolution"]), info["codes"], int(info["mixture_side"]))


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
                x = _in_parts(G, of_branch, noise)
            else:
                injection = generator(seed, "sample/injection", first)
                x = branches.generate(G, of_branch, noise, torch.full((n,), j), injection)
            row.append(to_unit(x).cpu())
    return torch.cat([picture for row in rows for picture in row])


def _in_parts(G: LayeredGenerator, ws: Tensor, noise: Sequence[Tensor]) -> Tensor:
    size = max(1, PIXELS_AT_ONCE // G.resolution**2)
    parts = [slice(first, first + size) for first in range(0, len(ws), size)]
    return torch.cat([G(ws[part], [maps[part] for maps in noise]) for part in parts])
