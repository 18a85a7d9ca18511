"""Operators one after the other: ``outer * inner`` measures with ``outer`` what ``inner`` made of the picture."""

from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import LinearOperator, Operator
from rtil.inverse.operators.nonlinear import NonlinearOperator


class _Composed(Operator):
    def __init__(self, outer: Operator, inner: Operator) -> None:
        super().__init__(inner.img_size, outer.measurement_shape, f"{outer.name} of {inner.name}")
        self.noise_model = outer.noise_model
        self.outer, self.inner = outer, inner

    @property
    def observed(self) -> Tensor:
        """The outer operator's."""
        return self.outer.observed

    @property
    def error_normaliser(self) -> float:
        """The outer operator's: the error is that of the picture which it measures."""
        return self.outer.error_normaliser

    def measure(self, x: Tensor) -> Tensor:
        """Apply one after the other."""
        return self.outer.measure(self.inner.measure(x))

    def update_parameters(self, **parameters: object) -> None:
        """Hand parameters on to both."""
        self.outer.update_parameters(**parameters)
        self.inner.update_parameters(**parameters)


class ComposedOperator(_Composed, NonlinearOperator):
    """Two operators of which one is nonlinear; :func:`compose` makes it."""


class ComposedLinearOperator(_Composed, LinearOperator):
    """Two linear operators; :func:`compose` makes it."""

    outer: LinearOperator
    inner: LinearOperator

    def transpose(self, y: Tensor) -> Tensor:
        """Apply the transposes, in reverse order."""
        return self.inner.transpose(self.outer.transpose(y))


def compose(outer: Operator, inner: Operator) -> Operator:
    """Return the operator of A(x) = outer.A(inner.A(x)), with the noise of the outer one.

    Args:
        outer: Whose pictures are the measurements of the inner one.
        inner: Its own noise, if any, is left out.

    Raises:
        UserError: The inner one's measurements are no pictures of the outer one's size.
    """
    if outer.img_size != inner.measurement_shape:
        raise UserError(
            f"'{outer.label}' measures pictures {outer.img_size} but '{inner.label}' makes {inner.measurement_shape}: "
            f"build the outer one for {inner.measurement_shape}"
        )
    linear = isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator)
    return ComposedLinearOperator(outer, inner) if linear else ComposedOperator(outer, inner)
