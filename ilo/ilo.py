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

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from ilo.objective import Objective, StochasticNoise, resolve_sna_sigma
from ilo.policies import has_perceptual_term
from ilo.presets import preset_radii
from ilo.range_projection import project_to_range
from ilo.rounds import ILOLatents, Point, Variables, deviations_of, enter, render
from ilo.settings import RADII, ILOSettings, RoundSettings
from rtil import seeds
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.constraints import Constraint, ball_around, start_norms, typical_shell
from rtil.inverse.loop import RANGE, Evaluation, Optimised, optimise
from rtil.inverse.operators.base import Operator
from rtil.inverse.perceptual_term import PerceptualTerm
from rtil.inverse.plateau import Plateau
from rtil.inverse.problem import Problem
from rtil.inverse.result import Inversion
from rtil.inverse.settings import Selection
from rtil.inverse.solver import Solver
from rtil.inverse.starts import Shapes
from rtil.layout import trained_cuts
from rtil.ranges import to_unit

SHELL_TOLERANCE = 1e-3


class ILO(Solver):
    """Invert a generator round by round, each entering it one block later.

    Arguments are those of :class:`rtil.inverse.solver.Solver`, options those of :class:`ilo.settings.ILOSettings`.
    """

    Settings: ClassVar[type[RoundSettings]] = ILOSettings
    Latents = ILOLatents
    SELECTIONS = get_args(Selection)
    FITS_NOISE = True
    settings: RoundSettings

    @property
    def rounds(self) -> ILOSettings:
        """The settings of all rounds."""
        assert isinstance(self.settings, ILOSettings)  # noqa: S101  but for CSGM, which overrides this
        return self.settings

    def resolved(self, settings: Any) -> Any:
        """Fill in steps, and one number for each round; see :meth:`Solver.resolved`."""
        settings, G = super().resolved(settings), self.generator
        steps = settings.rounds()[: G.num_blocks] if settings.steps is None else settings.steps
        if not 1 <= len(steps) <= G.num_blocks:
            raise UserError(
                f"steps has {len(steps)} rounds: this {G.resolution} px generator allows 1 to {G.num_blocks} (the "
                f"latents, then cuts 1..{G.num_blocks - 1})"
            )
        settings = settings.changed(steps=steps)
        values: dict[str, Any] = {"lr": settings.lrs()} | {name: settings.radii_of(name) for name in RADII}
        if settings.radii != "none":
            values |= preset_radii(settings.radii, G, len(steps))._asdict() | {"radii": "none"}
        if settings.switch == "plateau":
            values |= {"rampup": 0.0, "rampdown": 0.0}
        return settings.changed(**values)

    def fits_noise(self, operator: Operator) -> bool:
        """Return False where noise is added anew in each step, too; see :meth:`Solver.fits_noise`."""
        return super().fits_noise(operator) and self.settings.sna_sigma is None

    def iterates(self) -> int:
        """Return those of all rounds; see :meth:`Solver.iterates`."""
        first, *others = (steps + 1 if steps else 0 for steps in self.rounds.rounds())
        return first + (1 + self.rounds.range_projection) * sum(others)

    def attempt(self, problem: Problem) -> Inversion:
        """Run all rounds once; see :meth:`Solver.attempt`."""
        term = self.perceptual_term(problem, self.settings.perceptual_mode)
        return _Rounds(self.generator, self.rounds, problem, term, self.compute_dtype).run()

    def start_shapes(self) -> Shapes:
        """Return those of v, the noise maps and the deviations at cuts; see :meth:`Solver.start_shapes`."""
        G = self.generator
        return {**super().start_shapes(), **{f"z1_{k}": G.cut_shape(k) for k in range(1, G.num_blocks)}}

    def check_start(self, start_from: Mapping[str, Tensor], images: int) -> None:
        """Raise UserError unless an inversion of so many images can start there; see :meth:`Solver.check_start`."""
        super().check_start(start_from, images)
        settings = self.rounds
        for name in (f"z1_{k}" for k, steps in enumerate(settings.rounds()) if k and steps and settings.z1_sphere):
            if name in start_from:
                entries = start_from[name].float().flatten(2)
                norms = torch.linalg.vector_norm(entries, dim=2) / (settings.z1_sigma * entries.shape[2] ** 0.5)
                if bool(((norms - 1).abs() > SHELL_TOLERANCE).any()):
                    raise UserError(
                        f"{name} in start_from has {norms.min():.3g} to {norms.max():.3g} times the norm at which "
                        f"z1_sphere holds it: leave {name} or z1_sphere away"
                    )

    def has_perceptual_term(self, operator: Operator) -> bool:
        """Return what the policy says; see :meth:`Solver.has_perceptual_term`."""
        return has_perceptual_term(self.settings.policy, operator)

    def trained_otherwise(self, info: Mapping[str, Any]) -> bool:
        """Return whether rounds enter deeper than additive branches did; see :meth:`Solver.trained_otherwise`."""
        if not info.get("rtil"):
            return False
        return len(self.rounds.rounds()) - 1 > trained_cuts(info) or not info.get("sigma", 1)


class _Rounds:
    """One attempt at one batch: its rounds, and what they leave behind."""

    def __init__(
        self,
        generator: LayeredGenerator,
        settings: ILOSettings,
        problem: Problem,
        perceptual: PerceptualTerm | None,
        compute_dtype: torch.dtype,
    ) -> None:
        self.generator, self.settings, self.problem, self.compute_dtype = generator, settings, problem, compute_dtype
        self.space, self.steps = problem.space, settings.rounds()
        self.objective = Objective(problem, settings, perceptual)
        sna_sigma = resolve_sna_sigma(settings.sna_sigma, problem.operator)
        self.noise = (
            None if sna_sigma is None else StochasticNoise(sna_sigma, problem.image_ids, problem.seed, problem.restart)
        )
        self.plateau = None
        if settings.switch == "plateau":
            self.plateau = Plateau(settings.switch_window, settings.switch_threshold)
        self.alive = problem.all_alive()
        self.pictures: list[Tensor] = []
        self.stops: list[Tensor] = []
        self.histories: list[dict[str, Tensor]] = []
        self.distances: list[Tensor] = []

    def run(self) -> Inversion:
        """Run all rounds, and again behind every projection to the range."""
        problem = self.problem
        point = Point(
            problem.start_v(self.settings.start), problem.start_noise(self.generator), deviations_of(problem.given)
        )
        for k in range(len(self.steps)):
            point = self._round(k, point)
        for _ in range(self.settings.range_projection):
            point = self._back_to_the_range(point)
            for k in range(1, len(self.steps)):
                point = self._round(k, point)
        first = self.histories[0] if self.histories else {}
        history = {name: torch.cat([h[name] for h in self.histories], 1) for name in first}
        if self.distances:
            history[RANGE] = torch.cat(self.distances, 1)
        return problem.inversion(
            self.pictures, ILOLatents(point.latents(self.space)), history, self.alive, stops=self.stops
        )

    def _round(self, k: int, point: Point) -> Point:
        """Run round k from a point, note its picture, and return where it ends; 0 steps are no round."""
        G, index, steps = self.generator, len(self.pictures), self.steps[k]
        if steps:
            with G.computing_in(None):
                point = enter(G, self.space, point, k, self._z1(index, k, point))
                moving = Variables(G, self.space, point, self.settings.noise)
            with G.computing_in(self.compute_dtype):
                outcome = self._optimise(index, k, moving)
            point, self.alive = moving.point_of(outcome.variables), outcome.alive
            self.histories.append(outcome.history)
        self.stops.append(outcome.chosen if steps else torch.zeros_like(self.alive, dtype=torch.long))
        with G.computing_in(None):
            seen = bool(steps) or not self.pictures
            self.pictures.append(to_unit(render(G, self.space, point)) if seen else self.pictures[-1])
        return point

    def _optimise(self, index: int, k: int, moving: Variables) -> Optimised:
        settings, iterates = self.settings, itertools.count()

        def evaluate(variables: dict[str, Tensor]) -> Evaluation:
            picture = moving.picture(variables)
            noise = None if self.noise is None else self.noise.draw(picture, index, next(iterates))
            return self.objective(picture, variables, noise)

        start = moving.start
        return optimise(
            start,
            evaluate,
            steps=self.steps[k],
            lr=settings.lrs()[k],
            schedule=settings.ramp,
            alive=self.alive,
            constraints=self._constraints(k, start),
            plateau=self.plateau,
            keep_last=settings.selection == "last",
            stops=self.problem.stops_of(index),
            enough=self.problem.enough,
            on_iterate=self.problem.watch(index),
            repeatable=self.noise is None,
        )

    def _constraints(self, k: int, start: dict[str, Tensor]) -> dict[str, Constraint]:
        """Return where the variables of round k are held: in a ball where a radius is set, else on a sphere."""
        settings = self.settings
        found: dict[str, Constraint] = {}
        for name, t in start.items():
            radii = settings.radii_of({"v": "radius_latent", "z1": "radius_feature"}.get(name, "radius_noise"))
            if radii is not None:
                found[name] = ball_around(t, radii[k])
            elif name == "z1" and settings.z1_sphere:
                found[name] = typical_shell(settings.z1_sigma)
            elif name != "z1" and settings.sphere:
                found[name] = start_norms(t)
        return found

    def _z1(self, index: int, k: int, point: Point) -> Tensor | None:
        """Return where the deviation of round k starts, as given, drawn or zero; None for zero."""
        settings, problem = self.settings, self.problem
        if k in point.z1:
            return point.z1[k]
        if k == 0 or settings.z1_start == "zero":
            return None
        shape, place = self.generator.cut_shape(k), (problem.restart, index)
        draws = [
            torch.randn(shape, generator=seeds.generator(problem.seed, "inverse/z1", name, *place))
            for name in problem.image_ids
        ]
        z1 = settings.z1_sigma * torch.stack(draws).to(self.generator.device)
        return typical_shell(settings.z1_sigma)(z1) if settings.z1_sphere else z1

    def _back_to_the_range(self, point: Point) -> Point:
        """Return the point without deviations whose feature is nearest to that at the last cut."""
        with self.generator.computing_in(self.compute_dtype):
            nearest, outcome = project_to_range(self.generator, self.space, point, self.settings, self.alive)
        self.alive = outcome.alive
        self.distances.append(outcome.history[RANGE])
        return nearest
