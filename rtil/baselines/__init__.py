"""Reconstructions without a network, for scale: every one is called as ``reconstruct(y, operator)``.

Example:
    >>> import torch
    >>> from rtil.inverse.operators import make_operator
    >>> operator = make_operator("sr", (3, 16, 16), factor=2)
    >>> baselines_of(operator)
    ['adjoint', 'bicubic', 'tv', 'pnp-bm3d', 'dpir']
    >>> open_baseline("bicubic")(operator(torch.rand(2, 3, 16, 16)), operator).shape
    torch.Size([2, 3, 16, 16])
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from rtil.baselines.block_matching import BM3D
from rtil.baselines.classical import adjoint, bicubic
from rtil.baselines.plug_and_play import dpir, pnp_bm3d
from rtil.baselines.total_variation import TotalVariation
from rtil.errors import unknown
from rtil.inverse.operators.base import LinearOperator, Operator
from rtil.inverse.operators.resample import Downsampling
from rtil.inverse.operators.simple import Identity

__all__ = ["BASELINES", "BM3D", "Reconstruct", "TotalVariation", "adjoint", "baselines_of", "bicubic", "open_baseline"]

Reconstruct = Callable[[Tensor, Operator], Tensor]
"""From measurements [N, ...] and their operator to pictures [N, C, H, W] in [0, 1]; it draws nothing."""

BASELINES: Mapping[str, Callable[[Path | None], Reconstruct]] = {
    "adjoint": lambda _: adjoint,
    "bicubic": lambda _: bicubic,
    "tv": lambda _: TotalVariation(),
    "bm3d": lambda _: BM3D(),
    "pnp-bm3d": lambda _: pnp_bm3d(),
    "dpir": dpir,
}
"""How to open each, with the file of DRUNet's weights, by the name that users type."""


def open_baseline(name: str, drunet: Path | None = None) -> Reconstruct:
    """Return the reconstruction of this name.

    Args:
        name: Of :data:`BASELINES`.
        drunet: Weights of ``dpir``.

    Raises:
        UserError: There is none, or it needs weights, or packages of the extra ``baselines`` that are not installed.
    """
    if name not in BASELINES:
        raise unknown("baseline", name, BASELINES)
    return BASELINES[name](drunet)


def baselines_of(operator: Operator) -> list[str]:
    """Return the names of those that this operator has."""
    fits = {
        "adjoint": isinstance(operator, LinearOperator),
        "bicubic": isinstance(operator, Downsampling),
        "tv": isinstance(operator, LinearOperator),
        "bm3d": isinstance(operator, Identity) and operator.noise_model.sigma > 0,
        "pnp-bm3d": isinstance(operator, LinearOperator) and operator.img_size[0] == 3,
        "dpir": isinstance(operator, LinearOperator) and operator.img_size[0] == 3,
    }
    return [name for name in BASELINES if fits[name]]
