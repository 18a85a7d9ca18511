"""The classes behind :mod:`rtil.interop.deepinv`; importing this takes deepinv."""

from typing import Any

from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from rtil.inverse.operators import LinearOperator, Operator
from rtil.inverse.solver import Solver


class OperatorPhysics(Physics):
    """A physics that does as an operator does.

    Args:
        operator: It becomes a submodule, so that ``to`` moves its tensors.
    """

    def __init__(self, operator: Operator, **settings: Any) -> None:
        super().__init__(noise_model=operator.noise_model, **settings)
        self.operator, self.img_size = operator, operator.img_size

    def A(self, x: Tensor, **parameters: Any) -> Tensor:
        """Measure pictures [N, C, H, W] without noise."""
        return self.operator.A(x, **parameters)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return v's product with the Jacobian of A at x."""
        return self.operator.A_vjp(x, v)

    def sensor(self, x: Tensor) -> Tensor:
        """Leave noise out where nothing is observed."""
        return x.where(self.operator.observed, 0)

    def noise(self, x: Tensor, **parameters: Any) -> Tensor:
        """Add the operator's noise, drawn by the picture's place in the batch."""
        self.operator.noise_model.update_parameters(**parameters)
        return self.operator.noise_model(x)

    def set_noise_model(self, noise_model: Any, **_: Any) -> None:
        """Set the operator's noise."""
        self.operator.set_noise_model(noise_model)
        self.noise_model = self.operator.noise_model

    def update_parameters(self, **parameters: Any) -> None:
        """Replace the operator's tensors."""
        self.operator.update_parameters(**parameters)


class LinearOperatorPhysics(OperatorPhysics, LinearPhysics):
    """A linear physics that does as a linear operator does."""

    operator: LinearOperator

    def A_adjoint(self, y: Tensor, **parameters: Any) -> Tensor:
        """Apply the transpose of A."""
        return self.operator.A_adjoint(y, **parameters)


class SolverReconstructor(Reconstructor):
    """A solver as a model of (y, physics).

    Args:
        solver: Its generator becomes a submodule.
    """

    def __init__(self, solver: Solver) -> None:
        super().__init__(device=solver.generator.device)
        self.solver, self.generator = solver, solver.generator

    def forward(self, y: Any, physics: Any, **_: Any) -> Tensor:
        """Return pictures [N, 3, R, R] in [0, 1]."""
        operator = physics.operator if isinstance(physics, OperatorPhysics) else physics
        return self.solver(y, operator)
