"""PULSE's learning rate schedule (Menon et al. 2020), as a factor of the step."""

from dataclasses import dataclass

DROP_FROM = 0.9
LOW, LAST = 0.1, 0.001


@dataclass(frozen=True)
class Linear1CycleDrop:
    """Up and down in straight lines, then a drop: ``linear1cycledrop`` of PULSE's code, its default.

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
