"""Intermediate Layer Optimization and its relatives: CSGM, PULSE, sparse deviations behind the generator.

All return an :class:`rtil.inverse.result.Inversion`; of one by PULSE, :func:`converged` tells which images met their
measurements within its ``eps``.

Example: ``ILO(load_snapshot("run").generator).invert(y, operator).x``
"""

from ilo.csgm import CSGM
from ilo.ilo import ILO
from ilo.pulse import PULSE, converged
from ilo.sparse import SparseDeviation

__all__ = ["CSGM", "ILO", "PULSE", "SparseDeviation", "converged"]
