"""Plug-and-play restoration (DPIR; Zhang et al. 2021), by deepinv's implementation, for every linear operator.

Half-quadratic splitting: in turns the operator's proximal step (``prox_l2``) and a denoiser, whose level falls from
49 / 255 to that of the measurements in 8 iterations. The denoiser is BM3D, which was never trained (``pnp-bm3d``), or
DRUNet with weights from a file (``dpir``, the paper's).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rtil.baselines.block_matching import BM3D, SMALLEST_SIDE
from rtil.baselines.checks import baseline_package, linear
from rtil.errors import UserError
from rtil.inverse.operators.base import Operator
from rtil.torch_files import read_torch

LEAST_SIGMA = 0.01
"""The last noise level where the measurements have none; deepinv's step sizes use the same floor."""


class PlugAndPlay:
    """Reconstruct by a denoiser.

    Args:
        denoise: Called as denoise(x, sigma): colour pictures [N, 3, H, W], and the standard deviation of their noise.

    Raises:
        UserError: deepinv is not installed.
    """

    def __init__(self, denoise: Callable[[Tensor, Any], Tensor]) -> None:
        self._optim = baseline_package("deepinv.optim", "plug-and-play")
        self._denoiser = _Denoiser(denoise)

    def __call__(self, y: Tensor, operator: Operator) -> Tensor:
        """Return the pictures [N, 3, H, W] in [0, 1].

        Args:
            y: Measurements [N, ...].
            operator: A :class:`rtil.inverse.operators.base.LinearOperator` of colour pictures of at least 8 px.

        Raises:
            UserError: The operator is not linear, or measures other pictures.
        """
        A = linear(operator, "plug-and-play")
        if A.img_size[0] != 3 or min(A.img_size[1:]) < SMALLEST_SIDE:
            raise UserError(f"plug-and-play takes colour pictures of {SMALLEST_SIDE} px or more: got {A.img_size}")
        A.check_measurement(y)
        y = y.float()
        sigma = max(LEAST_SIGMA, A.noise_model.sigma)
        model = self._optim.DPIR(sigma=sigma, denoiser=self._denoiser.to(y.device), device=y.device)
        with torch.no_grad():
            found: Tensor = model(y, A, init=A.A_adjoint(y) if A.noise_model.text else A.A_dagger(y))
        return found.clamp(0, 1)


class _Denoiser(nn.Module):
    def __init__(self, denoise: Callable[[Tensor, Any], Tensor]) -> None:
        super().__init__()
        self.denoise = denoise

    def forward(self, x: Tensor, sigma: Any) -> Tensor:
        return self.denoise(x, sigma)


def pnp_bm3d() -> PlugAndPlay:
    """Return plug-and-play with BM3D.

    Raises:
        UserError: The packages of the extra ``baselines`` are not installed.
    """
    bm3d = BM3D()
    return PlugAndPlay(lambda x, sigma: bm3d.denoise(x, float(torch.as_tensor(sigma).flatten()[0])))


def dpir(weights: Path | None) -> PlugAndPlay:
    """Return plug-and-play with DRUNet.

    Args:
        weights: A state dict of deepinv's ``DRUNet`` for colours, such as its ``drunet_deepinv_color.pth``.

    Raises:
        UserError: No file is given, it is not there, or it holds something else.
    """
    if weights is None:
        raise UserError("baseline 'dpir' needs DRUNet's weights: --drunet PATH, a state dict of deepinv's DRUNet")
    if not weights.is_file():
        raise UserError(f"drunet {weights} is no file: give a state dict of deepinv's DRUNet")
    network = baseline_package("deepinv.models", "dpir").DRUNet(pretrained=None)
    try:
        network.load_state_dict(read_torch(weights))
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        raise UserError(f"drunet {weights} is no state dict of deepinv's DRUNet for colours ({said})") from error
    return PlugAndPlay(network.eval().requires_grad_(False))
