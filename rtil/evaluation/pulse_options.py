"""The settings of PULSE as a user gives them."""

from dataclasses import dataclass, fields
from typing import Any

from ilo.objective import GeodesicOf
from ilo.pulse import PulseNoise


@dataclass
class PULSEOptions:
    """Settings of PULSE, with the defaults of :class:`ilo.PULSE`.

    Args:
        pulse_lr: Peak learning rate of PULSE, in a schedule of its own.
        pulse_geodesic_weight: Weight of the geodesic term of PULSE.
        pulse_geodesic_of: Style rows that this term compares: ws (behind the mapping) or v (before it).
        pulse_noise: Noise maps of PULSE: trainable (the first five move), fixed or zero.
        pulse_eps: Mean squared error of the measurements, pictures in [0, 1], up to which PULSE has converged; result
            files of reconstruct tell whether it has.
        pulse_clamp: Count smaller errors as that one: the geodesic term alone moves a picture that has converged.
    """

    pulse_lr: float = 0.4
    pulse_geodesic_weight: float = 0.002
    pulse_geodesic_of: GeodesicOf = "ws"
    pulse_noise: PulseNoise = "trainable"
    pulse_eps: float = 2e-3
    pulse_clamp: bool = False

    def of_pulse(self) -> dict[str, Any]:
        """Return the arguments of :class:`ilo.PULSE` that differ from its defaults, as JSON values.

        The others are left out, so that settings keep the hash that they had before these options came.
        """
        given = {f: getattr(self, f.name) for f in fields(PULSEOptions)}
        return {f.name.removeprefix("pulse_"): value for f, value in given.items() if value != f.default}
