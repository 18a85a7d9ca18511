"""What is left of an operator when A is not linear: A and A_vjp.

There is no transpose, no least-squares inverse and no closed proximal step, so whoever asks for one is told that. The
solvers of this project (ILO, CSGM, mGANprior) use A alone and need nothing else.
"""

from typing import Any, NoReturn

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import Operator, checked


class NonlinearOperator(Operator):
    """A differentiable map of pictures to measurements; arguments and attributes are :class:`Operator`'s."""

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Multiply checked v [N, *measurement_shape] with the Jacobian of A at checked x; returns [N, C, H, W]."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.measure(x), x, v)
        return gradient

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return v's product with the Jacobian of A at x: the gradient of <A(x), v>, [N, C, H, W].

        Args:
            x: Pictures [N, C, H, W].
            v: In the space of measurements, [N, *measurement_shape].

        Raises:
            UserError: x is no picture of the operator's, or v no measurement.
        """
        x = checked("pictures", x, self.img_size)
        return self.vjp(x, checked("measurements", v, self.measurement_shape))

    def A_adjoint(self, y: Tensor, *_: Any, **__: Any) -> NoReturn:
        """Refuse: only a linear A has a transpose.

        Raises:
            UserError: Always.
        """
        self._refuse("A_adjoint")

    def A_dagger(self, y: Tensor, *_: Any, **__: Any) -> NoReturn:
        """Refuse: only a linear A has a least-squares inverse in closed form.

        Raises:
            UserError: Always.
        """
        self._refuse("A_dagger")

    def prox_l2(self, z: Tensor, y: Tensor, *_: Any, **__: Any) -> NoReturn:
        """Refuse: only a linear A makes the proximal step a linear system.

        Raises:
            UserError: Always.
        """
        self._refuse("prox_l2")

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(
            f"'{self.label}' is nonlinear and has no {what}: it has A and A_vjp; "
            "use a solver that needs only these (ilo, csgm, pulse, mganprior)"
        )
