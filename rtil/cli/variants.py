"""Variants of an evaluation: named settings that are compared beside each other, as a user writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from rtil.cli.common import read_table
from rtil.errors import UserError
from rtil.evaluation.candidates import Variant
from rtil.evaluation.methods import METHODS, SolverOptions
from rtil.inverse.solver import Selection

STANDARD_METHOD = "ilo"


@dataclass
class VariantOptions(SolverOptions):
    """What a variant may set.

    Args:
        method: A method; without, that of the variant's name if it is one, else ilo.
        selection: Which iterate is returned; without, that of the evaluation.
    """

    method: str = STANDARD_METHOD
    selection: Selection = "measurement"


def read_variants(
    given: Mapping[str, Mapping[str, Any]], options: SolverOptions, selections: Sequence[Selection]
) -> dict[str, Variant]:
    """Return variants with all settings.

    Args:
        given: What differs from the evaluation's settings, by name.
        options: The evaluation's settings.
        selections: The evaluation's.

    Raises:
        UserError: An unknown name, or a value of another type.
    """
    common = {f.name: getattr(options, f.name) for f in fields(SolverOptions)}
    found = {}
    for name, table in given.items():
        if not isinstance(table, Mapping):
            raise UserError(f"variant '{name}' is {table!r}: give a table of settings, or {{}}")
        own = read_table(VariantOptions, table, f"variant '{name}'")
        method = own.pop("method", name if name in METHODS else STANDARD_METHOD)
        selection = own.pop("selection", None)
        chosen = list(selections) if selection is None else [selection]
        found[name] = Variant(method, replace(SolverOptions(**common), **own), chosen)
    return found
