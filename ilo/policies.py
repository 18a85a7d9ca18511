"""For which measurements ILO has a perceptual term beside the measurement error.

``always``  for all that are pictures, and an error for others.
``paper``   not under scarce measurements, where the papers found the squared error alone better (ILO, section 4.2;
            RTIL, section 4): not for compressed sensing, whose measurements are no pictures; not where less than
            half of the pixels is observed; not for super-resolution by 16 or more.
"""

from typing import Any, Literal

from torch import Tensor

from rtil.inverse.perceptual import is_picture

Policy = Literal["always", "paper"]

LEAST_OBSERVED = 0.5
SCARCE_FACTOR = 16


def has_perceptual_term(policy: Policy, operator: Any, y: Tensor, resolution: int) -> bool:
    """Return whether measurements y [N, ...] of pictures of this side get the term."""
    if policy == "always":
        return True
    if not is_picture(y.shape[1:]) or y.shape[-1] * SCARCE_FACTOR <= resolution:
        return False
    observed = getattr(operator, "observed", None)
    return observed is None or float(observed.double().mean()) >= LEAST_OBSERVED
