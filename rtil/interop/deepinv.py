"""Our operators as deepinv physics, for code that asks for the type and not only for the methods."""

import importlib
from typing import Any

from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators import LinearOperator


def to_deepinv(operator: LinearOperator) -> Any:
    """Return a ``deepinv.physics.LinearPhysics`` that measures, and draws its noise, as ``operator`` does.

    Raises:
        UserError: deepinv is not installed.
    """
    try:
        deepinv_physics = importlib.import_module("deepinv.physics")
    except ModuleNotFoundError as error:
        raise UserError(f"deepinv operators need the package deepinv: pip install deepinv ({error})") from error

    def keep_observed(y: Tensor) -> Tensor:
        return y.where(operator.observed, 0)

    physics = deepinv_physics.LinearPhysics(
        A=lambda x, **_: operator.A(x),
        A_adjoint=lambda y, **_: operator.A_adjoint(y),
        img_size=operator.img_size,
        noise_model=operator.noise_model,
        sensor_model=keep_observed,
    )
    physics.operator = operator  # as a submodule, so that physics.to(device) moves its buffers
    return physics
