"""Back-projection: the picture nearest to a solver's that agrees with the measurements.

Without noise, and with the pseudo-inverse A^+ (Tirer and Giryes 2019; Hussein, Tirer and Giryes 2020, section 3.2),

    x + A^+ (y - A x),

the projection of x onto all pictures that measure as y: the truth being one of them, no picture gets farther from it.
With noise N(0, s^2) y is not to be met exactly. If the errors of x are taken as N(0, t^2) in each entry, the posterior
mean is

    argmin_x'  ||A x' - y||^2 / s^2  +  ||x' - x||^2 / t^2,

and t follows from the residual, whose expectation is E ||y - A x||^2 = c t^2 + M s^2, c the operator's normaliser and M
the number of entries. A solver's picture was fitted to y, so t is estimated too small rather than too large.
"""

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import LinearOperator, Operator


def check_back_projection(operator: Operator) -> None:
    """Raise UserError unless an operator is linear."""
    if not isinstance(operator, LinearOperator):
        raise UserError(f"back_projection is for linear operators: '{operator.label}' is not one; leave it away")


@torch.no_grad()
def back_project(x: Tensor, y: Tensor, operator: LinearOperator) -> Tensor:
    """Return the pictures of the module, [N, C, H, W] in [0, 1].

    Args:
        x: What a solver found, [N, C, H, W] in [0, 1].
        y: What was measured, [N, *measurement_shape].
        operator: What measured, with its noise.
    """
    residual = torch.where(operator.observed, y - operator.A(x), 0)
    sigma = operator.noise_model.sigma
    if sigma == 0:
        return (x + operator.A_dagger(residual)).clamp(0, 1)
    entries = int(operator.observed.sum())
    variance = (residual.square().flatten(1).sum(1) - entries * sigma**2).clamp(min=0) / operator.error_normaliser
    gamma = (variance / sigma**2).view(-1, *[1] * (x.ndim - 1))
    return (x + operator.prox_l2(torch.zeros_like(x), residual, gamma)).clamp(0, 1)


def reported(x: Tensor, y: Tensor, operator: Operator, back_projection: bool) -> Tensor:
    """Return what is reported where a solver found x: after back-projection, if wanted, and the operator's own step.

    Args:
        x: [N, C, H, W] in [0, 1].
        y: [N, *measurement_shape].
        operator: What measured; with back-projection linear.
        back_projection: Whether it is wanted.
    """
    if back_projection:
        assert isinstance(operator, LinearOperator)  # noqa: S101  checked before
        x = back_project(x, y, operator)
    return operator.consistent(x, y)
