"""Intermediate Layer Optimization (Daras et al., ICML 2021, algorithm 1; rounds as in its StyleGAN2 experiments).

Round 0 optimises latents and noise maps of the whole generator. Round k >= 1 freezes the state at cut k that the
selected iterate of round k-1 leads to, and optimises a deviation z1 added to its feature, with the latents and noise
maps that act behind the cut:

    min over z1, v, noise of  error(A tail(feature_k + z1, rgb_k, ws(v), noise), y) + geodesic_weight geodesic(v) + ...

The state carries the picture accumulated so far (rgb), so that a round starts with exactly the picture at which the
round before ended; the published code drops it. Nothing before the cut is computed during a round.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ilo.rounds import NoiseRule, Point, Variables, enter, render
from rtil import seeds
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.latents import Latents, Start, start_noise
from rtil.inverse.loop import Evaluation, Optimised, Term, optimise
from rtil.inverse.losses import Split, gaussian_penalty, geodesic, measurement_error
from rtil.inverse.result import Inversion, Status
from rtil.inverse.schedules import Ramp
from rtil.inverse.solver import Callback, Solver, check_choice
from rtil.ranges import to_unit

Z1Start = Literal["zero", "normal"]


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
            stands beside a loss thousands of times larger in compressed sensing; on this scale it lost about 1.5 dB in
            round 0 (10 % compressed sensing, 32 px faces).
        z1_weight: Weight of ||z1||^2 / (2 size).
        z1_start: ``zero`` continues from the round before; ``normal`` draws N(0, 1) (RTIL, algorithm 1).
        sphere: Whether style rows and noise maps keep the norms that they have when a round starts.
        start: ``normal`` or ``mean``: where the latents start. At the mean no row has a norm to keep: free in round 0.
        schedule: Course of the learning rate within a round.
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
        z1_weight: float = 0.0,
        z1_start: Z1Start = "zero",
        sphere: bool = True,
        start: Start = "normal",
        schedule: Ramp | None = None,
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
        if not (0 <= geodesic_weight < float("inf") and 0 <= z1_weight < float("inf")):
            raise UserError(f"weights are {geodesic_weight} (geodesic) and {z1_weight} (z1): valid are numbers >= 0")
        check_choice("noise rule", noise, NoiseRule)
        check_choice("z1 start", z1_start, Z1Start)
        check_choice("start", start, Start)
        self.noise: NoiseRule = noise
        self.geodesic_weight = geodesic_weight
        self.z1_weight = z1_weight
        self.z1_start = z1_start
        self.sphere = sphere
        self.start: Start = start
        self.schedule = schedule or Ramp()

    def attempt(
        self,
        y: Tensor,
        operator: Any,
        split: Split | None,
        latents: Latents,
        image_ids: Sequence[str],
        restart: int,
        callback: Callback | None,
    ) -> Inversion:
        """Run all rounds once; see :meth:`Solver.attempt`."""
        G = self.generator
        N = len(y)
        point = Point(
            latents.start(self.start, image_ids, self.seed, restart), start_noise(G, image_ids, self.seed, restart), {}
        )
        alive = torch.ones(N, dtype=torch.bool, device=y.device)
        pictures: list[Tensor] = []
        histories: list[dict[str, Tensor]] = []
        for k, steps in enumerate(self.steps):
            if steps:
                with G.computing_in(None):
                    point = enter(G, latents, point, k, self._z1(image_ids, restart, k))
                    moving = Variables(G, latents, point, self.noise)
                with G.computing_in(self.compute_dtype):
                    outcome = self._round(k, moving, y, operator, split, alive, callback)
                point, alive = moving.point_of(outcome.variables), outcome.alive
                histories.append(outcome.history)
            with G.computing_in(None):
                pictures.append(to_unit(render(G, latents, point)) if steps or k == 0 else pictures[-1])
        with torch.no_grad():
            score = measurement_error(operator, pictures[-1], y, None if split is None else split.heldout)
            tensors = {"v": point.v, "ws": latents.ws(point.v)}
        tensors |= {f"noise_{i}": t for i, t in enumerate(point.noise)} | {f"z1_{k}": t for k, t in point.z1.items()}
        rounds = torch.stack(pictures).clamp(0, 1)
        status: list[Status] = ["ok" if ok else "diverged" for ok in alive.tolist()]
        return Inversion(
            x=rounds[-1],
            rounds=rounds,
            score=score,
            latents={name: t[None] for name, t in tensors.items()},
            history={name: torch.cat([h[name] for h in histories], 1) for name in histories[0]} if histories else {},
            status=status,
            seconds=0.0,
        )

    def _round(
        self,
        k: int,
        moving: Variables,
        y: Tensor,
        operator: Any,
        split: Split | None,
        alive: Tensor,
        callback: Callback | None,
    ) -> Optimised:
        def evaluate(variables: dict[str, Tensor]) -> Evaluation:
            picture = moving.picture(variables)
            x = to_unit(picture)
            fit = measurement_error(operator, x, y, None if split is None else split.fit)
            terms, score = {"measurement": Term(1.0, fit)}, fit
            if split is not None:
                with torch.no_grad():
                    score = measurement_error(operator, x, y, split.heldout)
                terms["heldout"] = Term(0.0, score)
            zero = torch.zeros_like(fit)
            if self.geodesic_weight:
                value = geodesic(variables["v"]) if "v" in variables else zero
                terms["geodesic"] = Term(self.geodesic_weight, value)
            if self.z1_weight:
                terms["z1"] = Term(self.z1_weight, gaussian_penalty(variables["z1"]) if k else zero)
            return Evaluation(picture, terms, score)

        def on_iterate(step: int, picture: Tensor) -> None:
            if callback is not None:
                callback(k, step, to_unit(picture).clamp(0, 1))

        return optimise(
            moving.start,
            evaluate,
            steps=self.steps[k],
            lr=self.lrs[k],
            schedule=self.schedule,
            alive=alive,
            spheres=moving.spheres if self.sphere else (),
            keep_last=self.selection == "last",
            on_iterate=on_iterate,
        )

    def _z1(self, image_ids: Sequence[str], restart: int, k: int) -> Tensor | None:
        if k == 0 or self.z1_start == "zero":
            return None
        shape = self.generator.cut_shape(k)
        draws = [
            torch.randn(shape, generator=seeds.generator(self.seed, "inverse/z1", name, restart, k))
            for name in image_ids
        ]
        return torch.stack(draws).to(self.generator.device)
