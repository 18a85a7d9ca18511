"""Networks and their branches as plain values; without torch, so that settings name them at no cost."""

from collections.abc import Mapping
from typing import Any, Literal

from rtil.errors import UserError

BranchKind = Literal["additive", "mixture"]
BranchWeights = list[float] | Literal["uniform", "paper"]
Estimator = Literal["sampled", "all"]
Upsampling = Literal["bilinear", "nearest"]
LpipsNet = Literal["alex", "vgg"]
NormOrder = Literal["before_act", "after_act"]
InputBias = Literal["channel", "pixel"]
DEFAULT_CHUNK = 1024
"""Codes whose activations are kept at one time. Up to so many a head runs once."""
MOST_CUTS = 4
"""Additive branches reach the fourth block at most (RTIL, section 4.1)."""


def resolutions(resolution: int) -> list[int]:
    """Return the sides of the blocks' maps, [4, 8, ..., resolution].

    Raises:
        UserError: If the resolution is not a power of two of at least 8.
    """
    if resolution < 8 or resolution & (resolution - 1):
        raise UserError(f"resolution {resolution} is not valid: use a power of two of at least 8 (8, 16, 32, 64, ...)")
    return [2**i for i in range(2, resolution.bit_length())]


def check_channels(channels: Mapping[int, int] | Mapping[str, int], resolution: int) -> dict[int, int]:
    """Return the channel table with int keys, restricted to the sides in use.

    Raises:
        UserError: If a side up to ``resolution`` has no entry, or a width is below 1.
    """
    table = {int(side): int(width) for side, width in channels.items()}
    for side in resolutions(resolution):
        if table.get(side, 0) < 1:
            raise UserError(f"channels has no width for side {side}: give one for each of {resolutions(resolution)}")
    return {side: table[side] for side in resolutions(resolution)}


def trained_cuts(info: Mapping[str, Any]) -> int:
    """Return at how many cuts training added deviations: 0 of vanilla checkpoints, mixtures and unknown ones.

    Args:
        info: What a snapshot says of its training; one without ``branches`` is older than mixtures, and additive.
    """
    if not info.get("rtil") or info.get("branches", "additive") != "additive":
        return 0
    return min(MOST_CUTS, int(info["resolution"]).bit_length() - 3)
