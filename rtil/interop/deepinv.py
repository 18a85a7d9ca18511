"""Our operators as deepinv's physics, our solvers as its reconstructors: for code that asks for the type.

Code that asks for methods only, as deepinv's solvers do, takes our operators as they are. The other way, deepinv's
physics in our solvers, needs nothing at all or :class:`rtil.inverse.operators.Adapted`; see docs/deepinv.md.
"""

import importlib
from typing import Any

from rtil.errors import UserError
from rtil.inverse.operators import LinearOperator, Operator
from rtil.inverse.solver import Solver


def to_deepinv(operator: Operator) -> Any:
    """Return a physics that measures, and draws its noise, as ``operator`` does: a ``deepinv.physics.LinearPhysics``.

    Of a nonlinear operator it is a ``deepinv.physics.Physics``, with ``A`` and ``A_vjp``. Both share the operator's
    tensors, hand ``update`` on to it, and have deepinv's own ``A_dagger``, ``prox_l2`` and the rest.

    Raises:
        UserError: deepinv is not installed.
    """
    classes = _classes("operators")
    kind = classes.LinearOperatorPhysics if isinstance(operator, LinearOperator) else classes.OperatorPhysics
    return kind(operator)


def as_reconstructor(solver: Solver) -> Any:
    """Return a ``deepinv.models.Reconstructor``, called as model(y, physics), that inverts with ``solver``.

    It works under ``torch.no_grad`` and in ``deepinv.test``, with any physics that the solver takes; those of
    :func:`to_deepinv` count as the operator inside. What is drawn for a picture depends on its place in its batch.
    Its ``to`` moves the generator.

    Raises:
        UserError: deepinv is not installed.
    """
    return _classes("solvers").SolverReconstructor(solver)


def _classes(what: str) -> Any:
    try:
        return importlib.import_module("rtil.interop.deepinv_classes")
    except ModuleNotFoundError as error:
        raise UserError(f"deepinv's {what} need the package deepinv: pip install deepinv ({error})") from error
