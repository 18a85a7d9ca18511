"""Checks of ILO's numbers."""

import math
from collections.abc import Sequence

from rtil.errors import UserError

Radius = float | Sequence[float] | None
"""One for all rounds, or one per round; None for no ball."""


def check_weight(name: str, value: float, positive: bool = False) -> None:
    """Raise UserError unless the value is finite, and not negative or, if so asked, above zero."""
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise UserError(f"{name} is {value:g}: valid is a number {'above 0' if positive else '>= 0'}")


def check_count(name: str, value: int, least: int) -> None:
    """Raise UserError unless the value is a whole number of ``least`` or more."""
    if not isinstance(value, int) or value < least:
        raise UserError(f"{name} is {value}: valid is a whole number of {least} or more")


def radii_per_round(name: str, radius: Radius, rounds: int) -> tuple[float, ...] | None:
    """Return one radius per round.

    Raises:
        UserError: Their number is not that of the rounds, or one is negative or not finite.

    Example:
        >>> radii_per_round("radius_latent", 5.0, 3)
        (5.0, 5.0, 5.0)
    """
    if radius is None:
        return None
    radii = tuple(radius) if isinstance(radius, Sequence) else (radius,) * rounds
    if len(radii) != rounds or any(not 0 <= r < float("inf") for r in radii):
        raise UserError(f"{name} is {radius}: valid is a number >= 0, or one for each of {rounds} rounds")
    return radii
