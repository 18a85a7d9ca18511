"""The settings of ILO and CSGM as a user gives them."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ilo.checks import check_weight
from ilo.ilo import Switch, Z1Start
from ilo.objective import GeodesicOf, SNASigma
from ilo.policies import Policy
from ilo.presets import RadiiPreset, preset_radii
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.latents import Start
from rtil.inverse.perceptual_term import PerceptualMode
from rtil.inverse.plateau import Plateau

PerceptualChoice = Literal["none", "vgg", "lpips"]

RADII = ("radius_noise", "radius_latent", "radius_feature")


@dataclass
class ILOOptions:
    """Settings of ILO, with the defaults of :class:`ilo.ILO`; CSGM has those that act in round 0, PULSE none.

    Args:
        lr: Peak learning rate of ILO, one number or one for each round; CSGM takes the first.
        geodesic_weight: Weight of the geodesic term (ILO, CSGM).
        geodesic_of: Style rows that this term compares: v (before the mapping) or ws (behind it) (ILO, CSGM).
        z1_weight: Weight of the Gaussian penalty on z1 (ILO).
        z1_start: zero continues from the round before, normal draws N(0, z1_sigma^2) (ILO).
        z1_sigma: Standard deviation of z1's prior, in that penalty, the normal start and z1_sphere (ILO).
        z1_sphere: Hold the norm of z1 at z1_sigma sqrt(size); needs z1_start normal (ILO).
        sphere: Keep the norms of latents and noise maps during a round (ILO, CSGM).
        radii: l1 balls around the start of each round, one of RTIL's four sets (appendix A.6.1), a61-1 to a61-4, scaled
            from the paper's generator to the number of entries here; none, or the three radii below (ILO, CSGM).
        radius_noise: Radius of the l1 ball of each noise map, one number or one for each round, in place of the sphere;
            null for no ball (ILO, CSGM; CSGM takes the first).
        radius_latent: Likewise of all latents together (ILO, CSGM).
        radius_feature: Likewise of z1; the first of several is not used (ILO).
        start: Where the latents start: normal (drawn) or mean (ILO, CSGM).
        switch: fixed runs all steps of a round; plateau ends it, with steps as the limit, when the errors of all
            pictures of a batch have flattened, at a constant learning rate: rampup and rampdown are 0 then. A picture
            that flattened earlier waits unmoved (ILO, CSGM).
        switch_window: Steps over which the error must fall, else it is flat.
        switch_threshold: By which fraction it must fall.
        ilo_perceptual: Perceptual term of ILO and CSGM, none, vgg or lpips, in the tasks whose measurements are
            pictures: all but cs, gaussian, mri, fourier and phase, where it is left out.
        ilo_perceptual_weight: Weight of that term.
        perceptual_mode: What it compares where pixels are missing: fill puts the generated pixels into the gaps of the
            observed picture, mask leaves them 0 in both.
        policy: always has that term wherever it can be, paper not under scarce measurements: less than half of the
            pixels observed, or super-resolution by 16 or more.
        measurement_weight: Weight of the measurement error beside that term; 0 minimises the term alone. Without the
            term the weight is 1.
        sna_sigma: Stochastic noise addition for denoise: the noise, on the 0-255 scale, that is added to the generated
            picture anew in each step; known takes that of each denoise, and none in other tasks; null for none (ILO,
            CSGM).
        range_projection: How many times, after the rounds, ILO goes back to the range of the layers before the last
            cut, and runs the rounds behind the input again. What moves there is held by sphere, not by the radii (ILO).
        range_steps: Steps of each such projection; they come on top of steps.
    """

    lr: list[float] = field(default_factory=lambda: [0.1])
    geodesic_weight: float = 1e-4
    geodesic_of: GeodesicOf = "v"
    z1_weight: float = 0.0
    z1_start: Z1Start = "zero"
    z1_sigma: float = 1.0
    z1_sphere: bool = False
    sphere: bool = True
    radii: RadiiPreset = "none"
    radius_noise: list[float] | None = None
    radius_latent: list[float] | None = None
    radius_feature: list[float] | None = None
    start: Start = "normal"
    switch: Switch = "fixed"
    switch_window: int = Plateau.window
    switch_threshold: float = Plateau.threshold
    ilo_perceptual: PerceptualChoice = "none"
    ilo_perceptual_weight: float = 1.0
    perceptual_mode: PerceptualMode = "fill"
    policy: Policy = "always"
    measurement_weight: float = 1.0
    sna_sigma: SNASigma = None
    range_projection: int = 0
    range_steps: int = 100

    def of_ilo(self, generator: LayeredGenerator, steps: tuple[int, ...], pictures: bool, csgm: bool) -> dict[str, Any]:
        """Return the arguments of :class:`ilo.ILO` that these settings decide, as JSON values.

        What is switched off is left out, so that settings keep their hash when a new option comes.

        Args:
            generator: The prior.
            steps: Of the rounds.
            pictures: Whether the measurements are pictures; without, there is no perceptual term.
            csgm: Whether it is for CSGM, which has round 0 only.

        Raises:
            UserError: A weight is not valid, or settings exclude each other.
        """
        if self.ilo_perceptual != "none":
            check_weight("ilo_perceptual_weight", self.ilo_perceptual_weight, positive=True)
            check_weight("measurement_weight", self.measurement_weight)
        lr = self.lr[:1] if csgm else self.lr
        found: dict[str, Any] = {
            "lr": lr * len(steps) if len(lr) == 1 else lr,
            "geodesic_weight": self.geodesic_weight,
            "z1_weight": self.z1_weight,
            "z1_start": self.z1_start,
            "sphere": self.sphere,
            "start": self.start,
            **self._radii(generator, len(steps), csgm),
        }
        if self.geodesic_of != "v" and self.geodesic_weight:
            found["geodesic_of"] = self.geodesic_of
        if not csgm:
            found |= {"z1_sigma": self.z1_sigma} if self.z1_sigma != 1 else {}
            found |= {"z1_sphere": True} if self.z1_sphere else {}
            if self.range_projection:
                found |= {"range_projection": self.range_projection, "range_steps": self.range_steps}
        if self.switch == "plateau":
            names = ("switch", "switch_window", "switch_threshold")
            found |= {name: getattr(self, name) for name in names}
        if self.sna_sigma is not None:
            found["sna_sigma"] = self.sna_sigma
        if pictures and self.ilo_perceptual != "none":
            found |= {
                "perceptual": self.ilo_perceptual,
                "perceptual_weight": self.ilo_perceptual_weight,
                "perceptual_mode": self.perceptual_mode,
                "policy": self.policy,
                "measurement_weight": self.measurement_weight,
            }
        return found

    def _radii(self, generator: LayeredGenerator, rounds: int, csgm: bool) -> dict[str, list[float]]:
        given = {name: getattr(self, name) for name in RADII if getattr(self, name) is not None}
        if self.radii != "none":
            if given:
                raise UserError(f"radii '{self.radii}' sets {', '.join(given)} itself: give one or the other")
            noise, latent, feature = preset_radii(self.radii, generator, rounds)
            given = {"radius_noise": list(noise), "radius_latent": list(latent), "radius_feature": list(feature)}
        if csgm:
            given.pop("radius_feature", None)
            given = {name: radii[:1] for name, radii in given.items()}
        return {name: radii * rounds if len(radii) == 1 else radii for name, radii in given.items()}
