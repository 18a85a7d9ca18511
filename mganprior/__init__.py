"""The multi-code GAN prior.

Example: ``MGANPrior(load_snapshot("run").generator, codes=20).invert(y, operator).x``
"""

from mganprior.mganprior import MGANPrior

__all__ = ["MGANPrior"]
