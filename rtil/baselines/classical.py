"""Reconstructions that know nothing of pictures beyond the operator: what any prior must beat."""

import torch.nn.functional as F
from torch import Tensor

from rtil.baselines.checks import linear
from rtil.errors import UserError
from rtil.inverse.operators.base import Operator
from rtil.inverse.operators.resample import Downsampling

NOISE_TOLERANCE = 0.1


def adjoint(y: Tensor, operator: Operator) -> Tensor:
    """Return the picture of least norm that fits the measurements: the adjoint, scaled as it must be.

    Where rows of A are orthonormal (masks, denoising, Fourier lines) it is ``A_adjoint``, zero where nothing was
    observed; for super-resolution and compressed sensing, whose adjoint has the wrong scale, it is ``A_dagger``. With
    noise the latter stops at a tolerance of 0.1, lest it amplifies the noise where A loses much (blur).

    Args:
        y: Measurements [N, ...].
        operator: A :class:`rtil.inverse.operators.base.LinearOperator`.

    Returns:
        [N, C, H, W] in [0, 1].

    Raises:
        UserError: The operator is not linear, or y no measurement of it.
    """
    A = linear(operator, "adjoint")
    if A.noise_model.text:
        return A.A_dagger(y, tol=NOISE_TOLERANCE).clamp(0, 1)
    return A.A_dagger(y).clamp(0, 1)


def bicubic(y: Tensor, operator: Operator) -> Tensor:
    """Enlarge the measurement of super-resolution with the bicubic filter of Pillow (Keys 1981, a = -0.5).

    Args:
        y: Small pictures [N, C, h, w].
        operator: A :class:`rtil.inverse.operators.resample.Downsampling`.

    Returns:
        [N, C, H, W] in [0, 1].

    Raises:
        UserError: The operator does not shrink pictures, or y is no measurement of it.
    """
    if not isinstance(operator, Downsampling):
        raise UserError(f"bicubic enlarges measurements of sr but the task is '{operator.label}': use adjoint or tv")
    operator.check_measurement(y)
    # antialias decides on torch's filter: with it a is -0.5, as in Pillow, without it -0.75
    return F.interpolate(y.float(), operator.img_size[1:], mode="bicubic", antialias=True).clamp(0, 1)
