"""Intermediate Layer Optimization and its relatives: CSGM, PULSE, sparse deviations, several cuts, Langevin.

All return an :class:`rtil.inverse.result.Inversion`. The settings of each are in :mod:`ilo.settings`.

Example: ``ILO(load_snapshot("run").generator, steps=(50, 30)).invert(y, operator).x``
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ilo.csgm import CSGM
    from ilo.ilo import ILO
    from ilo.langevin import Langevin
    from ilo.multicut import MultiCut
    from ilo.pulse import PULSE
    from ilo.sparse import SparseDeviation

__all__ = ["CSGM", "ILO", "PULSE", "Langevin", "MultiCut", "SparseDeviation"]

_MODULES = {"CSGM": "csgm", "ILO": "ilo", "Langevin": "langevin", "MultiCut": "multicut", "PULSE": "pulse"}
_MODULES |= {"SparseDeviation": "sparse"}


def __getattr__(name: str) -> Any:
    """Import a solver, and torch with it, when it is first asked for: its settings need neither."""
    if name in _MODULES:
        return getattr(import_module(f"ilo.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'ilo' has no attribute '{name}'")
