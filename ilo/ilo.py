"""Intermediate Layer Optimization (Daras et al., ICML 2021, algorithm 1; rounds as in its StyleGAN2 experiments).

Round 0 optimises latents and noise maps of the whole generator. Round k >= 1 freezes the state at cut k that the
selected iterate of round k-1 leads to, and optimises a deviation z1 added to its feature, with the latents and noise
maps that act behind the cut:

    min over z1, v, noise of  error(A tail(feature_k + z1, rgb_k, ws(v), noise), y) + ...    see :mod:`ilo.objective`

A solve that starts from an earlier one (``start_from``) begins with its picture: round 0 at its v and noise maps, and
the deviations z1_k that are given act from the beginning, as they are, until round k moves them from there; those of
skipped rounds and behind the last one stay. So steps (0, 0, 0, 100) move what acts at and behind cut 3 alone, as the
authors' code does for the frames of a video, and spheres and balls are around where each round starts, as ever.

The state carries the picture accumulated so far (rgb), so that a round starts with exactly the picture at which the
round before ended; the published code drops it. Nothing before the cut is computed during a round.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ilo.attempt import Attempt
from ilo.checks import Radius, check_count, check_weight, radii_per_round
from ilo.objective import GeodesicOf, Known, SNASigma
from ilo.policies import Policy, has_perceptual_term
from ilo.rounds import NoiseRule
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.latents import Start
from rtil.inverse.losses import Split
from rtil.inverse.perceptual_term import PerceptualMode, PerceptualTerm, PictureDistance, check_pictures
from rtil.inverse.plateau import Plateau
from rtil.inverse.problem import Problem
from rtil.inverse.result import Inversion
from rtil.inverse.schedules import Ramp
from rtil.inverse.solver import Solver, check_choice
from rtil.inverse.starts import Shapes, noise_start_shapes, row_shape

Z1Start = Literal["zero", "normal"]
Switch = Literal["fixed", "plateau"]

CONSTANT = Ramp(0, 0)
SHELL_TOLERANCE = 1e-3


class ILO(Solver):
    """Invert a generator round by round, each entering it one block later.

    Args:
        generator: The prior, with B blocks.
        steps: Adam steps of rounds 0, 1, ...; at most B of them. 0 skips a round.
        lr: Peak learning rate, one for all rounds or one per round.
        noise: Noise maps optimised in round k, of those behind its cut: ``5+2k`` (ILO's code: maps 0..4+2k),
            ``first5`` (the workshop paper: maps 0..4), ``next5`` (the poster: the first five behind the cut), ``none``,
            ``all``.
        geodesic_weight: Weight of the geodesic term, whose value is 149 for 18 independent rows. The published 0.01
            lost about 1.5 dB in round 0 on this scale (10 % compressed sensing, 32 px faces), for which the published
            code leaves the term out; 0 does.
        geodesic_of: The rows that it compares, of those that move: ``v`` (ILO) or ``ws``, behind the mapping (PULSE).
        z1_weight: Weight of ||z1||^2 / (2 z1_sigma^2 size).
        z1_start: ``zero`` continues from the round before; ``normal`` draws N(0, z1_sigma^2) (RTIL, algorithm 1).
        z1_sigma: Standard deviation of z1's prior: that of training.
        z1_sphere: Hold ||z1|| at z1_sigma sqrt(size), where that prior lies. Needs ``normal``: zero has no direction.
        sphere: Whether style rows and noise maps keep the norms that they have when a round starts.
        radius_noise: Radius of an l1 ball around each noise map's start in a round, in place of the sphere; one number
            or one per round. 0 holds it at its start, None sets no ball.
        radius_latent: Likewise for the style rows that move, together.
        radius_feature: Likewise for z1, around its start; not used in round 0.
        start: ``normal`` or ``mean``: where the latents start. At the mean no row has a norm to keep: free in round 0.
        schedule: Course of the learning rate within a round; None is ``Ramp()``, or constant with ``plateau``.
        switch: When a round ends: after its steps (``fixed``), or when the error of all images of the batch flattened,
            and after its steps at the latest (``plateau``, see :mod:`rtil.inverse.plateau`). An image that flattened
            waits unmoved for its mates; "moving" in the history tells when.
        switch_window: Steps over which the error must fall.
        switch_threshold: By which fraction.
        perceptual: Compares A x with y as pictures; for operators that measure pictures.
        perceptual_weight: Its weight.
        perceptual_mode: ``fill`` or ``mask``; see :mod:`rtil.inverse.perceptual_term`.
        policy: For which measurements the perceptual term is left out; see :mod:`ilo.policies`.
        measurement_weight: Weight of the measurement error beside a perceptual term; 0 leaves the latter alone. Without
            such a term it is 1.
        sna_sigma: Standard deviation, on the 0-255 scale, of the noise that is added to the picture anew in each step
            before it is compared: the known noise, in denoising. ``known`` takes it from the operator, and none where
            that is no denoising. None for no noise.
        range_projection: How many times, after all rounds, the last feature is projected back to the range and the
            rounds behind the input are run again: t in algorithm 1. Their pictures are further entries of ``rounds``,
            and the last of them is returned. Latents and noise maps are on their spheres there, if ``sphere``, and in
            no l1 ball: the radii are those of rounds. The relative squared distances are "range" in the history.
        range_steps: Adam steps of each such projection, with the learning rate of round 0.
        options: Those of :class:`rtil.inverse.solver.Solver`: selection, seed, precision, restarts, combination,
            batch_size.

    Raises:
        UserError: An option is not valid.
    """

    def __init__(
        self,
        generator: LayeredGenerator,
        steps: Sequence[int] = (100, 60, 60, 100),
        lr: float | Sequence[float] = 0.1,
        *,
        noise: NoiseRule = "5+2k",
        geodesic_weight: float = 1e-4,
        geodesic_of: GeodesicOf = "v",
        z1_weight: float = 0.0,
        z1_start: Z1Start = "zero",
        z1_sigma: float = 1.0,
        z1_sphere: bool = False,
        sphere: bool = True,
        radius_noise: Radius = None,
        radius_latent: Radius = None,
        radius_feature: Radius = None,
        start: Start = "normal",
        schedule: Ramp | None = None,
        switch: Switch = "fixed",
        switch_window: int = Plateau.window,
        switch_threshold: float = Plateau.threshold,
        perceptual: PictureDistance | None = None,
        perceptual_weight: float = 1.0,
        perceptual_mode: PerceptualMode = "fill",
        policy: Policy = "always",
        measurement_weight: float = 1.0,
        sna_sigma: SNASigma = None,
        range_projection: int = 0,
        range_steps: int = 100,
        **options: Any,
    ) -> None:
        super().__init__(generator, **options)
        self.steps = tuple(steps)
        if not 1 <= len(self.steps) <= generator.num_blocks:
            raise UserError(
                f"steps has {len(self.steps)} rounds: this {generator.resolution} px generator allows 1 to "
                f"{generator.num_blocks} (the latents, then cuts 1..{generator.num_blocks - 1})"
            )
        if any(not isinstance(s, int) or s < 0 for s in self.steps):
            raise UserError(f"steps is {self.steps}: valid are whole numbers of 0 or more, one per round")
        self.lrs = tuple(lr) if isinstance(lr, Sequence) else (lr,) * len(self.steps)
        if len(self.lrs) != len(self.steps) or any(not 0 < rate < float("inf") for rate in self.lrs):
            raise UserError(f"lr is {lr}: valid is a positive number, or one for each of {len(self.steps)} rounds")
        for kind, value, choices in (
            ("noise rule", noise, NoiseRule),
            ("geodesic rows", geodesic_of, GeodesicOf),
            ("z1 start", z1_start, Z1Start),
            ("start", start, Start),
            ("switch", switch, Switch),
            ("perceptual mode", perceptual_mode, PerceptualMode),
            ("policy", policy, Policy),
        ):
            check_choice(kind, value, choices)
        check_weight("geodesic_weight", geodesic_weight)
        check_weight("z1_weight", z1_weight)
        check_weight("measurement_weight", measurement_weight)
        check_weight("perceptual_weight", perceptual_weight, positive=True)
        check_weight("z1_sigma", z1_sigma, positive=True)
        if isinstance(sna_sigma, str):
            check_choice("sna_sigma", sna_sigma, Known)
        elif sna_sigma is not None:
            check_weight("sna_sigma", sna_sigma, positive=True)
        check_count("range_projection", range_projection, 0)
        check_count("range_steps", range_steps, 1)
        if z1_sphere and z1_start == "zero":
            raise UserError("z1_sphere needs z1_start normal: a deviation of zero has no direction")
        if z1_sphere and radius_feature is not None:
            raise UserError("z1_sphere and radius_feature both hold z1: give one of them")
        if range_projection and not any(self.steps[1:]):
            raise UserError("range_projection needs a round behind the input: give steps for two rounds or more")
        self.plateau = Plateau(switch_window, switch_threshold) if switch == "plateau" else None
        if self.plateau is not None and schedule not in (None, CONSTANT):
            raise UserError("switch 'plateau' has a constant learning rate: leave schedule away, or give Ramp(0, 0)")
        self.schedule = schedule or (Ramp() if self.plateau is None else CONSTANT)
        rounds = len(self.steps)
        self.radius_noise = radii_per_round("radius_noise", radius_noise, rounds)
        self.radius_latent = radii_per_round("radius_latent", radius_latent, rounds)
        self.radius_feature = radii_per_round("radius_feature", radius_feature, rounds)
        self.noise: NoiseRule = noise
        self.start: Start = start
        self.sphere, self.geodesic_weight = sphere, geodesic_weight
        self.geodesic_of: GeodesicOf = geodesic_of
        self.z1_start: Z1Start = z1_start
        self.z1_weight, self.z1_sigma, self.z1_sphere = z1_weight, z1_sigma, z1_sphere
        self.perceptual, self.perceptual_weight = perceptual, perceptual_weight
        self.perceptual_mode: PerceptualMode = perceptual_mode
        self.policy: Policy = policy
        self.measurement_weight, self.sna_sigma = measurement_weight, sna_sigma
        self.range_projection, self.range_steps = range_projection, range_steps

    def attempt(self, problem: Problem) -> Inversion:
        """Run all rounds once; see :meth:`Solver.attempt`."""
        return Attempt(self, problem).run()

    def start_shapes(self) -> Shapes:
        """Return those of v, the noise maps and the deviations at cuts; see :meth:`Solver.start_shapes`."""
        G = self.generator
        deviations = {f"z1_{k}": G.cut_shape(k) for k in range(1, G.num_blocks)}
        return {"v": row_shape(G), **noise_start_shapes(G), **deviations}

    def check_start(self, start_from: Mapping[str, Tensor], images: int) -> None:
        """Raise UserError unless an inversion of so many images can start there; see :meth:`Solver.check_start`."""
        super().check_start(start_from, images)
        for name in (f"z1_{k}" for k, steps in enumerate(self.steps) if k and steps and self.z1_sphere):
            if name in start_from:
                entries = start_from[name].float().flatten(2)
                norms = torch.linalg.vector_norm(entries, dim=2) / (self.z1_sigma * entries.shape[2] ** 0.5)
                if bool(((norms - 1).abs() > SHELL_TOLERANCE).any()):
                    raise UserError(
                        f"{name} in start_from has {norms.min():.3g} to {norms.max():.3g} times the norm at which "
                        f"z1_sphere holds it: leave {name} or z1_sphere away"
                    )

    def perceptual_term(self, operator: Any, y: Tensor, split: Split | None) -> PerceptualTerm | None:
        """Return the perceptual term that these measurements get, or None."""
        if self.perceptual is None or not has_perceptual_term(self.policy, operator, y, self.generator.resolution):
            return None
        return PerceptualTerm(self.perceptual, operator, y, split, self.perceptual_mode)

    def _check(self, y: Tensor, operator: Any, ids: list[str]) -> None:
        super()._check(y, operator, ids)
        if self.perceptual is not None and self.policy == "always":
            check_pictures(y)
