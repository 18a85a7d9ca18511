"""Reconstructions without a network, for scale: every one is called as ``reconstruct(y, operator)``.

Example:
    >>> import torch
    >>> from rtil.inverse.operators import make_operator
    >>> operator = make_operator("sr", (3, 16, 16), factor=2)
    >>> baselines_of(operator)
    ['adjoint', 'bicubic', 'tv']
    >>> open_baseline("bicubic")(operator(torch.rand(2, 3, 16, 16)), operator).shape
    torch.Size([2, 3, 16, 16])
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from rtil.baselines.block_matching import BM3D
from rtil.baselines.classical import adjoint, bicubic
from rtil.baselines.total_variation import TotalVariation
from rtil.errors import unknown
from rtil.inverse.operators.base import LinearOperator, Operator
from rtil.inverse.operators.resample import Downsampling
from rtil.inverse.operators.simple import Identity

__all__ = ["BASELINES", "BM3D", "Reconstruct", "TotalVariation", "adjoint", "baselines_of", "bicubic", "open_baseline"]

Reconstruct = Callable[[Tensor, Operator], Tensor]
"""From measurements [N, ...] and their operator to pictures [N, C, H, W] in [0, 1]; it draws nothing."""

BASELINES: Mapping[str, Callable[[], Reconstruct]] = {
    "adjoint": lambda: adjoint,
    "bicubic": lambda: bicubic,
    "tv": TotalVariation,
    "bm3d": BM3D,
}
"""How to open each, by the name that users type."""


def open_baseline(name: str) -> Reconstruct:
    """Return the reconstruction of this name.

    Raises:
        UserError: There is none, or it needs packages of the extra ``baselines`` that are not installed.
    """
    if name not in BASELINES:
        raise unknown("baseline", name, BASELINES)
    return BASELINES[name]()


def baselines_of(operator: Operator) -> list[str]:
    """Return the names of those that this operator has."""
    fits = {
        "adjoint": isinstance(operator, LinearOperator),
        "bicubic": isinstance(operator, Downsampling),
        "tv": isinstance(operator, LinearOperator),
        "bm3d": isinstance(operator, Identity) and operator.noise_model.sigma > 0,
    }
    return [name for name in BASELINES if fits[name]]
