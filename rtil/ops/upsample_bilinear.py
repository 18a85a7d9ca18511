"""Bilinear interpolation of a map to twice its side (align_corners=False): weights 3/4 and 1/4, edges repeated."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.ops.tier import tier_of


def upsample_bilinear2d(x: Tensor) -> Tensor:
    """Interpolate x [N, C, H, W] to [N, C, 2H, 2W], any number of times differentiable.

    On a CPU torch's own interpolation is fastest. On a GPU its gradient adds atomically, in an order that changes from
    run to run; there, and as the reference, the map is put together from shifted copies.
    """
    if x.device.type == "cpu" and tier_of("upsample_bilinear2d", x) != "ref":
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    return _double(_double(x, 2), 3)


def _double(x: Tensor, dim: int) -> Tensor:
    size = x.shape[dim]
    before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, size - 1)], dim)
    after = torch.cat([x.narrow(dim, 1, size - 1), x.narrow(dim, size - 1, 1)], dim)
    near = 0.75 * x
    return torch.stack([near + 0.25 * before, near + 0.25 * after], dim + 1).flatten(dim, dim + 1)
