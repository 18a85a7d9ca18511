"""Where a multi-code inversion starts. Every draw belongs to one image and one restart, whatever its batch is."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mganprior.settings import AlphaInit
from rtil import seeds


def start_codes(codes: int, rows: int, dim: int, image_ids: Sequence[str], seed: int, restart: int) -> Tensor:
    """Draw proxies v [N, K, L, D] ~ N(0, I) on the CPU.

    The codes of an image are drawn one after the other, the first as the code of CSGM: fewer codes are the first ones
    of many.

    Args:
        codes: K.
        rows: Style slots L.
        dim: D.
        image_ids: N names.
        seed: Root seed.
        restart: Number of the attempt.
    """
    of_image = []
    for name in image_ids:
        rng = seeds.generator(seed, "inverse/v", name, restart)
        of_image.append(torch.stack([torch.randn(rows, dim, generator=rng) for _ in range(codes)]))
    return torch.stack(of_image)


def start_alpha(
    kind: AlphaInit, codes: int, channels: int, image_ids: Sequence[str], seed: int, restart: int
) -> Tensor:
    """Return the first weights alpha [N, K, C] on the CPU.

    Args:
        kind: ``uniform``: 1/K, the mean of the codes. ``dirichlet``: for each image one Dirichlet(1) draw over its
            codes, the same for all channels (RTIL). ``channels``: 1/C (the RTIL authors' code for their vanilla
            model, kept for comparison: features start at K/C of the mean's).
        codes: K.
        channels: C, the width at the cut.
        image_ids: N names.
        seed: Root seed.
        restart: Number of the attempt.
    """
    shape = (len(image_ids), codes, channels)
    if kind == "uniform":
        return torch.full(shape, 1 / codes)
    if kind == "channels":
        return torch.full(shape, 1 / channels)
    draws = []
    for name in image_ids:
        gamma = torch.empty(codes).exponential_(generator=seeds.generator(seed, "inverse/alpha", name, restart))
        draws.append(gamma / gamma.sum())
    return torch.stack(draws)[:, :, None].repeat(1, 1, channels)
