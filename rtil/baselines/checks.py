"""What the baselines ask for before they start."""

import importlib
from typing import Any

from rtil.errors import UserError
from rtil.inverse.operators.base import LinearOperator, Operator


def linear(operator: Operator, method: str) -> LinearOperator:
    """Return the operator, or raise UserError when it is not linear."""
    if not isinstance(operator, LinearOperator):
        raise UserError(f"{method} needs a linear operator but '{operator.label}' is none: use ilo or csgm")
    return operator


def baseline_package(module: str, method: str) -> Any:
    """Import a module of the optional extra ``baselines``, or raise UserError naming the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{method} needs packages that are not installed ({error}): pip install 'rtil[baselines]'"
        ) from error
