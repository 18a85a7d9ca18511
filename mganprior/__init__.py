"""The multi-code GAN prior. Its settings are in :mod:`mganprior.settings`.

Example: ``MGANPrior(load_snapshot("run").generator, codes=20).invert(y, operator).x``
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mganprior.mganprior import MGANPrior

__all__ = ["MGANPrior"]


def __getattr__(name: str) -> Any:
    """Import the solver, and torch with it, when it is first asked for: its settings need neither."""
    if name == "MGANPrior":
        from mganprior.mganprior import MGANPrior

        return MGANPrior
    raise AttributeError(f"module 'mganprior' has no attribute '{name}'")
