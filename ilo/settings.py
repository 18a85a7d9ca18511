"""The settings of ILO and its relatives, in groups: what moves, where it is held, what is minimised, when a round ends.

CSGM has those that act in ILO's first round; PULSE and sparse deviations have their own. Nothing here needs torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

from ilo.presets import RadiiPreset
from rtil.errors import UserError
from rtil.inverse.settings import (
    DEFAULT_STEPS,
    Combination,
    FeaturePrior,
    GeodesicOf,
    NoiseRule,
    PerceptualMode,
    PerceptualSettings,
    RampSettings,
    SolverSettings,
    Start,
    option,
    per_round,
)
from rtil.layout import trained_cuts

Policy = Literal["always", "paper"]
Switch = Literal["fixed", "plateau"]
Z1Start = Literal["zero", "normal"]
PulseNoise = Literal["trainable", "fixed", "zero"]
SparseInner = Literal["ilo", "csgm", "pulse"]
PerRound = float | tuple[float, ...]
SETTLING = 0.1
"""Fraction of a Langevin chain's steps, behind annealing, of which no sample is taken."""
RADII = ("radius_noise", "radius_latent", "radius_feature")


@dataclass(frozen=True, kw_only=True)
class MovedSettings:
    """What moves in a round, and how fast.

    Args:
        lr: Peak learning rate, one number or one for each round; CSGM takes the first.
        noise: Noise maps that round k optimises, of those behind its cut: 5+2k (ILO's code: maps 0..4+2k), first5 (the
            workshop paper: maps 0..4), next5 (the poster: the first five behind the cut), none, all.
        start: Where the latents start: normal (drawn) or mean. At the mean no row has a norm to keep: free in round 0.
    """

    lr: PerRound = option(0.1, above=0)
    noise: NoiseRule = "5+2k"
    start: Start = "normal"


@dataclass(frozen=True, kw_only=True)
class HeldSettings:
    """Where it is held.

    Args:
        sphere: Keep the norms that style rows and noise maps have when a round starts.
        radii: l1 balls around the start of each round, one of RTIL's four sets (appendix A.6.1), a61-1 to a61-4, scaled
            from the paper's generator to the number of entries here; none, or the radii below.
        radius_noise: Radius of the l1 ball of each noise map, one number or one for each round, in place of the sphere;
            0 holds it at its start, null is no ball. CSGM takes the first.
        radius_latent: Likewise of all style rows that move, together.
    """

    sphere: bool = True
    radii: RadiiPreset = option("none", off=True)
    radius_noise: PerRound | None = option(None, off=True, least=0)
    radius_latent: PerRound | None = option(None, off=True, least=0)


@dataclass(frozen=True, kw_only=True)
class MinimisedSettings(PerceptualSettings):
    """What is minimised beside the measurement error.

    Args:
        geodesic_weight: Weight of the geodesic term, whose value is 149 for 18 independent rows. The published 0.01
            lost about 1.5 dB in round 0 on this scale (10 % compressed sensing, 32 px faces), for which the published
            code leaves the term out; 0 does.
        geodesic_of: Style rows that this term compares, of those that move: v (before the mapping, ILO) or ws (behind
            it, PULSE).
        v_weight: Weight of ||v||^2 / (2 size), the negative log prior of the latents that move (CSGM, Bora et al.
            2017); it acts where sphere false lets their norms change.
        perceptual_mode: What the perceptual term compares where pixels are missing: fill puts the generated pixels into
            the gaps of the observed picture, mask leaves them 0 in both.
        policy: always has the perceptual term wherever measurements are pictures, paper not where they are scarce: less
            than half of the pixels observed, or super-resolution by 16 or more.
        measurement_weight: Weight of the measurement error beside a perceptual term; 0 minimises the latter alone.
            Without such a term it is 1.
        sna_sigma: Stochastic noise addition for denoise: the noise, on the 0-255 scale, that is added to the generated
            picture anew in each step before it is compared; known takes that of the operator, and none where it is no
            denoising; null for none.
    """

    geodesic_weight: float = option(1e-4, least=0)
    geodesic_of: GeodesicOf = option("v", off=True, of="geodesic_weight")
    v_weight: float = option(0.0, off=True, least=0)
    perceptual_mode: PerceptualMode = option("fill", of="perceptual")
    policy: Policy = option("always", of="perceptual")
    measurement_weight: float = option(1.0, of="perceptual", least=0)
    sna_sigma: float | Literal["known"] | None = option(None, off=True, above=0)


@dataclass(frozen=True, kw_only=True)
class SwitchSettings(RampSettings):
    """When a round ends.

    Args:
        switch: fixed runs all steps of a round; plateau ends it, with steps as the limit, when the errors of all
            pictures of a batch have flattened, at a constant learning rate, so without rampup and rampdown. A picture
            that flattened earlier waits unmoved; "moving" in the history tells when. See :mod:`rtil.inverse.plateau`.
        switch_window: Steps over which the error must fall, else it is flat.
        switch_threshold: By which fraction it must fall.
    """

    switch: Switch = option("fixed", off=True)
    switch_window: int = option(20, of="switch", least=1)
    switch_threshold: float = option(0.02, of="switch", above=0, below=1)


@dataclass(frozen=True, kw_only=True)
class RoundSettings(SwitchSettings, MinimisedSettings, HeldSettings, MovedSettings, SolverSettings):
    """What any round of ILO has, the first one too; see the groups."""

    def __post_init__(self) -> None:
        super().__post_init__()
        standard = RampSettings()
        for name in ("rampup", "rampdown") if self.switch == "plateau" else ():
            if getattr(self, name) not in (0, getattr(standard, name)):
                raise UserError(f"switch 'plateau' has a constant learning rate: leave {name} away, or give 0")
        given = [name for name in RADII if getattr(self, name, None) is not None]
        if self.radii != "none" and given:
            raise UserError(f"radii '{self.radii}' sets {', '.join(given)} itself: give one or the other")


@dataclass(frozen=True, kw_only=True)
class ILOSettings(RoundSettings):
    """The settings of :class:`ilo.ILO`.

    Args:
        steps: Adam steps of rounds 0, 1, ..., at most as many as the generator has blocks; 0 skips a round. null is
            100,60,60,100, as far as the generator has blocks.
        z1_weight: Weight of the Gaussian penalty ||z1||^2 / (2 z1_sigma^2 size).
        z1_start: Where the deviation of a round starts: zero continues from the round before, normal draws
            N(0, z1_sigma^2) (RTIL, algorithm 1).
        z1_sigma: Standard deviation of z1's prior, in that penalty, the normal start and z1_sphere: that of training.
        z1_sphere: Hold the norm of z1 at z1_sigma sqrt(size), where that prior lies; needs z1_start normal.
        radius_feature: Radius of the l1 ball of z1 around its start; the first of several is not used.
        range_projection: How many times, after all rounds, the last feature is projected back to the range of the
            layers before its cut and the rounds behind the input are run again: t in algorithm 1. What moves there is
            held by sphere, not by the radii. The pictures are further entries of ``rounds``, the relative squared
            distances "range" in the history.
        range_steps: Adam steps of each such projection, with the learning rate of round 0; they come on top of steps.
    """

    steps: tuple[int, ...] | None = option(None, least=0)
    z1_weight: float = option(0.0, least=0)
    z1_start: Z1Start = "zero"
    z1_sigma: float = option(1.0, off=True, above=0)
    z1_sphere: bool = option(False, off=True)
    radius_feature: PerRound | None = option(None, off=True, least=0)
    range_projection: int = option(0, off=True, least=0)
    range_steps: int = option(100, of="range_projection", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.z1_sphere and self.z1_start == "zero":
            raise UserError("z1_sphere needs z1_start normal: a deviation of zero has no direction")
        if self.z1_sphere and self.radius_feature is not None:
            raise UserError("z1_sphere and radius_feature both hold z1: give one of them")
        if self.range_projection and self.steps is not None and not any(self.steps[1:]):
            raise UserError("range_projection needs a round behind the input: give steps for two rounds or more")

    def with_budget(self, steps: Sequence[int]) -> Self:
        """Return the settings with these rounds, where they name none themselves."""
        return replace(self, steps=tuple(steps)) if self.steps is None else self

    def rounds(self) -> tuple[int, ...]:
        """Return the steps of the rounds."""
        return DEFAULT_STEPS if self.steps is None else self.steps

    def lrs(self) -> tuple[float, ...]:
        """Return the learning rates of the rounds."""
        return per_round("lr", self.lr, len(self.rounds()))

    def radii_of(self, name: str) -> tuple[float, ...] | None:
        """Return one of the radii for the rounds; None for no ball."""
        radius = getattr(self, name)
        return None if radius is None else per_round(name, radius, len(self.rounds()))


@dataclass(frozen=True, kw_only=True)
class CSGMSettings(RoundSettings):
    """The settings of :class:`ilo.CSGM`: those of ILO that act in its first round.

    Args:
        steps: Adam steps; null is the sum of ILO's, by default 320.
    """

    steps: int | None = option(None, least=0)

    def first_round(self) -> ILOSettings:
        """Return the settings of ILO with this round alone."""
        common = {f.name: getattr(self, f.name) for f in fields(RoundSettings)}
        return ILOSettings(steps=(sum(DEFAULT_STEPS) if self.steps is None else self.steps,), **common)


@dataclass(frozen=True, kw_only=True)
class MultiCutSettings(RampSettings, SolverSettings):
    """The settings of :class:`ilo.MultiCut`.

    Args:
        steps: Adam steps; null is the sum of ILO's, by default 320.
        lr: Peak learning rate.
        noise: Noise maps that move; see ILO's first round.
        sphere: Keep the norms that style rows and noise maps have at the start.
        cuts: Deviations z1 move at cuts 1 to this one; null is the most that any of the compared checkpoints was
            trained with, none where none was.
        z1_weight: Weight of the Gaussian penalty ||z1||^2 / (2 z1_sigma^2 size), summed over the cuts.
        z1_sigma: Standard deviation of z1's prior; null is that of training, 1 where a checkpoint does not tell.
    """

    steps: int | None = option(None, least=0)
    lr: float = option(0.1, above=0)
    noise: NoiseRule = "5+2k"
    sphere: bool = True
    cuts: int | None = option(None, least=0)
    z1_weight: float = option(0.0, least=0)
    z1_sigma: float | None = option(None, of="z1_weight", above=0)

    def of_checkpoint(self, info: Mapping[str, Any], compared: Sequence[Mapping[str, Any]]) -> Self:
        """Return the settings with cuts, the same for all that are compared, and the deviation of its training."""
        cuts = max(map(trained_cuts, [info, *compared])) if self.cuts is None else self.cuts
        sigma = float(info.get("sigma") or 1.0) if self.z1_sigma is None else self.z1_sigma
        return replace(self, cuts=cuts, z1_sigma=sigma)


@dataclass(frozen=True, kw_only=True)
class LangevinSettings(SolverSettings):
    """The settings of :class:`ilo.Langevin`.

    Args:
        steps: Steps of each chain; null is the sum of ILO's, by default 320.
        restarts: Independent chains.
        combination: mean returns the mean of all samples, best the sample of lowest measurement error.
        samples: Samples kept of each chain, evenly over its last part, behind annealing.
        cuts: Deviations z1 move at cuts 1 to this one; null is those of training, none for vanilla checkpoints and
            those that do not tell.
        z1_sigma: Standard deviation of z1's prior; null is that of training, 1 where a checkpoint does not tell.
        z1_prior: training is N(0, z1_sigma^2), that of RTIL's training; channel and full are for checkpoints without
            such a training: z1_sigma^2 times the variances of the features' channels, or their full covariance where
            it fits, over the generator's own samples (:mod:`rtil.inverse.feature_prior`). They need cuts.
        misfit: Standard deviation of what no picture of the generator can represent, for pictures in [-1, 1]; the
            measurements are trusted so far, and as far as their noise goes.
        hot: The same, at the start of a chain, from where it falls.
        annealing: Fraction of the steps in which it does.
        step: Size of a step, as a fraction of the inverse of the largest frequency; from 2 on it is not stable.
    """

    steps: int | None = option(None, least=1)
    combination: Combination = "mean"
    samples: int = option(8, least=1)
    cuts: int | None = option(None, least=0)
    z1_sigma: float | None = option(None, above=0)
    z1_prior: FeaturePrior = option("training", off=True)
    misfit: float = option(0.06, above=0)
    hot: float = option(1.0, above=0)
    annealing: float = option(0.6, least=0, most=0.9)
    step: float = option(0.7, above=0, below=2)

    def of_checkpoint(self, info: Mapping[str, Any], compared: Sequence[Mapping[str, Any]]) -> Self:
        """Return the settings with the cuts and the deviation of its training, where they name none themselves."""
        cuts = trained_cuts(info) if self.cuts is None else self.cuts
        sigma = float(info.get("sigma") or 1.0) if self.z1_sigma is None else self.z1_sigma
        return replace(self, cuts=cuts, z1_sigma=sigma)

    @property
    def has_spread(self) -> bool:
        """Whether results are means of several samples; see :attr:`SolverSettings.has_spread`."""
        return self.combination == "mean" and self.restarts * len(self.kept_steps()) > 1

    def all_steps(self) -> int:
        """Return the steps of a chain."""
        return sum(DEFAULT_STEPS) if self.steps is None else self.steps

    def kept_steps(self) -> list[int]:
        """Return the steps after which a sample is kept: the last one, and others as evenly as they can be."""
        steps = self.all_steps()
        first = min(steps - 1, round((self.annealing + SETTLING) * steps))
        samples = min(self.samples, steps - first)
        return [steps - (steps - first) * number // samples for number in reversed(range(samples))]


@dataclass(frozen=True, kw_only=True)
class PULSESettings(SolverSettings):
    """The settings of :class:`ilo.PULSE`.

    Args:
        steps: Adam steps; null is 100, in comparisons the sum of ILO's. 0 returns the start.
        lr: Peak learning rate, in a schedule of its own.
        geodesic_weight: Weight of the geodesic term beside the measurement error.
        geodesic_of: Style rows that this term compares: ws (behind the mapping, PULSE) or v (before it, ILO).
        noise: Noise maps: trainable (the first five move), fixed (none does) or zero (no noise). The last map is always
            zero and does not move, also where it is one of the first five.
        eps: Mean squared error of A x, pictures in [0, 1], up to which a picture counts as converged; result files and
            rows tell whether it has.
        clamp: Count smaller errors as that one, so that the geodesic term alone moves a picture that has converged, as
            in the authors' code. Selection sees the error itself.
    """

    steps: int | None = option(None, least=0)
    lr: float = option(0.4, above=0)
    geodesic_weight: float = option(0.002, least=0)
    geodesic_of: GeodesicOf = option("ws", of="geodesic_weight")
    noise: PulseNoise = "trainable"
    eps: float = option(2e-3, above=0)
    clamp: bool = option(False, off=True)


OF_INNER: Mapping[str, type[SolverSettings]] = {"ilo": ILOSettings, "csgm": CSGMSettings, "pulse": PULSESettings}
"""What may run before sparse deviations."""


@dataclass(frozen=True, kw_only=True)
class SparseSettings(SolverSettings):
    """The settings of :class:`ilo.SparseDeviation`.

    Args:
        inner: What runs first: ilo, csgm or pulse, with all settings of that method; then a sparse deviation of the
            picture and the latents follow each other in turns. Noise maps, spheres and learning rate of these turns are
            those of its last round, after pulse those of csgm's default.
        before: The settings of that method, of which selection, precision, restarts and combination are those given
            here.
        radius: Largest l1 norm of the deviation, with pictures in [-1, 1], where a pixel that turns from black to white
            takes 2 in each channel; null is 0.02 for each entry of the picture.
        alternations: Turns of the latents; 0 leaves them as they were found. They come on top of steps.
        steps: Adam steps of the latents in each.
        sparse_steps: Projected gradient steps of the deviation in each.
    """

    SHARED: ClassVar[Sequence[str]] = tuple(f.name for f in fields(SolverSettings))

    inner: SparseInner = "ilo"
    before: SolverSettings | None = option(None, hidden=True)
    radius: float | None = option(None, above=0)
    alternations: int = option(4, least=0)
    steps: int = option(60, least=1)
    sparse_steps: int = option(100, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.before is None:
            return
        if not isinstance(self.before, OF_INNER[self.inner]):
            raise UserError(
                f"before is {type(self.before).__name__} but inner is {self.inner}: name one method in both"
            )
        shared = {name: getattr(self, name) for name in self.SHARED}
        object.__setattr__(self, "before", replace(self.before, **shared))

    def completed(self) -> Self:
        """Return the settings with those of the method before, by default that method's defaults."""
        return self if self.before is not None else replace(self, before=OF_INNER[self.inner]())

    def beside(self, others: Mapping[str, SolverSettings]) -> Self:
        """Return the settings with those of the method before, if they have none."""
        if self.before is not None or self.inner not in others:
            return self
        return self.changed(before=others[self.inner])

    def with_budget(self, steps: Sequence[int]) -> Self:
        """Return the settings in which the method before has these rounds; what follows has steps of its own."""
        complete = self.completed()
        return replace(complete, before=complete.before and complete.before.with_budget(steps))

    def following(self) -> ILOSettings:
        """Return the settings of ILO whose last round the turns of the latents are like."""
        if isinstance(self.before, ILOSettings):
            return self.before
        before = self.before if isinstance(self.before, CSGMSettings) else CSGMSettings()
        return before.first_round()

    def to_json(self) -> dict[str, Any]:
        """Return everything that acts; what both methods share is told once."""
        found = super().to_json()
        if self.before is not None:
            found["before"] = {name: value for name, value in found["before"].items() if name not in self.SHARED}
        return found
