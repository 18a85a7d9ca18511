"""CSGM (Bora et al. 2017): optimise the generator's input only, which is ILO's first round alone."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ilo.ilo import ILO
from ilo.settings import RADII, CSGMSettings, ILOSettings, RoundSettings


class CSGM(ILO):
    """Optimise latents and the first noise maps, in one round.

    Arguments are those of :class:`rtil.inverse.solver.Solver`, options those of :class:`ilo.settings.CSGMSettings`.
    """

    Settings = CSGMSettings
    FITS_NOISE = False

    @property
    def rounds(self) -> ILOSettings:
        """The settings of ILO with this round alone."""
        assert isinstance(self.settings, CSGMSettings)  # noqa: S101  the class's own
        return self.settings.first_round()

    def trained_otherwise(self, info: Mapping[str, Any]) -> bool:
        """Return False: the plain generator is a branch of every training."""
        return False

    def resolved(self, settings: Any) -> Any:
        """Fill in steps and radii, of several numbers the first; see :meth:`Solver.resolved`."""
        per_round = {name: getattr(settings, name, None) for name in ("lr", *RADII)}
        firsts = {name: value[0] for name, value in per_round.items() if isinstance(value, tuple)}
        of_ilo = super().resolved(settings.changed(**firsts).first_round())
        common = {f.name: getattr(of_ilo, f.name) for f in fields(RoundSettings)}
        values = {name: value[0] if isinstance(value, tuple) else value for name, value in common.items()}
        return CSGMSettings(steps=of_ilo.steps[0], **values)
