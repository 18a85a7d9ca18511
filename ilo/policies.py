"""For which measurements ILO has a perceptual term beside the measurement error.

``always``  for all that are pictures.
``paper``   not under scarce measurements, where the papers found the squared error alone better (ILO, section 4.2;
            RTIL, section 4): not for compressed sensing, whose measurements are no pictures; not where less than
            half of the pixels is observed; not for super-resolution by 16 or more.
"""

from ilo.settings import Policy
from rtil.inverse.operators.base import Operator
from rtil.inverse.perceptual import is_picture

LEAST_OBSERVED = 0.5
SCARCE_FACTOR = 16


def has_perceptual_term(policy: Policy, operator: Operator) -> bool:
    """Return whether measurements by an operator get the term, if they are pictures."""
    if policy == "always":
        return True
    shape = operator.measurement_shape
    share = operator.observed.cpu().double().mean()
    scarce = shape[-1] * SCARCE_FACTOR <= operator.img_size[-1] or share < LEAST_OBSERVED
    return is_picture(shape) and not bool(scarce)
