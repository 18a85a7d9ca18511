"""Operators of other libraries: anything with ``A``, such as deepinv's physics, wrapped once when a solver gets it."""

from typing import Any

from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import Operator
from rtil.inverse.operators.nonlinear import NonlinearOperator


class ForeignOperator(NonlinearOperator):
    """What solvers need of an operator, by its ``A`` alone: all entries of y count, whose noise is not known.

    Args:
        foreign: Anything with ``A``. Its ``img_size`` is looked at, if it has one that is not None.
        y: Measurements [N, ...] that it made.
        side: Of the generator's pictures, in pixels.

    Raises:
        UserError: It has no ``A``, or measures pictures of another size.
    """

    def __init__(self, foreign: Any, y: Tensor, side: int) -> None:
        expected, name = (3, side, side), type(foreign).__name__
        if not callable(getattr(foreign, "A", None)):
            raise UserError(f"operator is {name}, which has no method A: give an Operator, or a physics of deepinv")
        size = getattr(foreign, "img_size", None)
        super().__init__(expected if size is None else size, y.shape[1:], name)
        self.foreign_A = foreign.A  # not the object itself: a module would become part of this one
        self.to(y.device)

    def A(self, x: Tensor) -> Tensor:
        """Measure pictures as the foreign operator does.

        Raises:
            UserError: What it returns has not y's shape.
        """
        measured: Tensor = self.foreign_A(x)
        if measured.shape != (len(x), *self.measurement_shape):
            raise UserError(
                f"operator {self.name} measures {list(measured.shape)} of {list(x.shape)} but y is "
                f"[N, {', '.join(map(str, self.measurement_shape))}]: give the operator that made y"
            )
        return measured

    def measure(self, x: Tensor) -> Tensor:
        """Return :meth:`A`."""
        return self.A(x)


def as_operator(operator: Any, y: Tensor, side: int) -> Operator:
    """Return the operator itself, or one of another library wrapped; see :class:`ForeignOperator`."""
    return operator if isinstance(operator, Operator) else ForeignOperator(operator, y, side)
