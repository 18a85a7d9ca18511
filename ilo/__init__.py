"""Intermediate Layer Optimization and its one-round relative.

Example: ``ILO(load_snapshot("run").generator).invert(y, operator).x``
"""

from ilo.csgm import CSGM
from ilo.ilo import ILO

__all__ = ["CSGM", "ILO"]
