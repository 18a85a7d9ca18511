"""Learning rate schedules, as a factor of the time t in (0, 1) within one round."""

import math
from dataclasses import dataclass
from typing import Protocol

DROP_FROM = 0.9
LOW, LAST = 0.1, 0.001


class Schedule(Protocol):
    """A course of the learning rate."""

    def at(self, step: int, steps: int) -> float:
        """Return the factor of a step, 0 <= step < steps."""


@dataclass(frozen=True)
class Ramp:
    """Linear ramp up, plateau, cosine ramp down (StyleGAN2's projector, with the fractions of ILO's code).

    r(t) = (1/2 - 1/2 cos(pi min(1, (1 - t) / rampdown))) min(1, t / rampup). Steps sit at the middle of their share
    of the round, t = (step + 1/2) / steps, so that no step has a rate of zero (with t = step / steps the first has).

    Args:
        rampup: Fraction of the round over which the rate rises from 0; 0 for none.
        rampdown: Fraction of the round over which it falls back to 0; 0 for none.

    Example:
        >>> [round(Ramp().factor(t), 3) for t in (0, 0.05, 0.4, 0.5, 0.75, 0.9)]
        [0.0, 1.0, 0.905, 0.75, 0.25, 0.043]
    """

    rampup: float = 0.05
    rampdown: float = 0.75

    def factor(self, t: float) -> float:
        """Return r(t), in [0, 1]."""
        up = min(1.0, t / self.rampup) if self.rampup else 1.0
        down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / self.rampdown)) if self.rampdown else 1.0
        return up * down

    def at(self, step: int, steps: int) -> float:
        """Return the factor of a step, 0 <= step < steps."""
        return self.factor((step + 0.5) / steps)


@dataclass(frozen=True)
class Linear1CycleDrop:
    """Up and down in straight lines, then a drop: ``linear1cycledrop`` of PULSE's code (Menon et al. 2020).

    Over the first 90 % of the steps the factor rises from 0.1 to 1 and falls back to 0.1; over the last 10 % it falls
    on towards 0.001. Step i has the factor at t = i / steps, as there: the first step has 0.1.

    Example:
        >>> [round(Linear1CycleDrop().factor(t), 4) for t in (0, 0.225, 0.45, 0.9, 0.95, 1)]
        [0.1, 0.55, 1.0, 0.1, 0.0505, 0.001]
    """

    def factor(self, t: float) -> float:
        """Return the factor at a fraction t of the steps, in [0, 1]."""
        if t < DROP_FROM:
            return LOW + (1 - LOW) * (1 - abs(2 * t / DROP_FROM - 1))
        return LOW + (LAST - LOW) * (t - DROP_FROM) / (1 - DROP_FROM)

    def at(self, step: int, steps: int) -> float:
        """Return the factor of a step, 0 <= step < steps."""
        return self.factor(step / steps)
