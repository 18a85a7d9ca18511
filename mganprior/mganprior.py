"""mGANprior (Gu, Shen and Zhou, CVPR 2020): one picture from K codes, mixed channel by channel inside the generator.

    min over v_k, alpha_k, noise of  error(A tail(sum_k alpha_k * head(ws(v_k), noise), noise), y)
                                     + perceptual_weight distance(A x, y)

Heads of all images and codes run as rows of one batch (:mod:`rtil.generators.mixing`, which also says how the styles
of the tail and the picture so far mix). alpha [K, C] is free: neither positive nor summing to 1. The authors divide
the sum by K once more, a constant that is left out. With K = 1 and alpha = 1 the picture is CSGM's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ilo.rounds import NoiseRule, noise_maps
from mganprior.start import AlphaInit, start_alpha, start_codes
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.generators.mixing import DEFAULT_CHUNK, picture_of_codes
from rtil.inverse.constraints import start_norms
from rtil.inverse.latents import Latents, start_noise
from rtil.inverse.loop import Evaluation, Optimised, OptimizerName, Term, measurement_terms, optimise
from rtil.inverse.losses import Split, measurement_error
from rtil.inverse.perceptual_term import PerceptualTerm, PictureDistance, check_pictures
from rtil.inverse.result import Inversion, Status
from rtil.inverse.schedules import Ramp
from rtil.inverse.solver import Callback, Solver, check_choice
from rtil.ranges import to_unit


class MGANPrior(Solver):
    """Optimise K codes, their weights per channel and the first noise maps, in one round.

    Args:
        generator: The prior.
        steps: Optimiser steps; 0 returns the start.
        lr: Peak learning rate of all variables. 0.1 with Adam is RTIL's; vanilla models had SGD with 1 there.
        codes: K.
        compose_side: Side in pixels of the feature at which the codes become one; None for resolution/8, at least 4.
        alpha_init: ``uniform``, ``dirichlet`` or ``channels``; see :func:`mganprior.start.start_alpha`.
        optimizer: ``adam``, or ``sgd`` without momentum.
        schedule: Course of the learning rate; ``Ramp(0, 0)`` is constant, as in the authors' code.
        sphere: Whether style rows keep the norms that they start with; the paper leaves them free. Noise maps that
            move always keep theirs, as by default in CSGM.
        noise: Noise maps that move, shared by the codes of an image: ``5+2k``, ``first5`` and ``next5`` are all the
            first five, as in CSGM; ``none``; ``all``.
        perceptual: Compares A x with y as pictures; for operators that measure pictures.
        perceptual_weight: Its weight, beside a measurement error that is the picture's mean squared error in [-1, 1].
            Selection goes by the measurement error alone. With selection ``heldout`` it does not see what is kept back.
        chunk: Heads whose activations are kept for the backward pass at one time: bounds memory, changes no value.
        options: Those of :class:`rtil.inverse.solver.Solver`: selection, seed, precision, restarts, combination,
            batch_size.

    Raises:
        UserError: An option is not valid.
    """

    def __init__(
        self,
        generator: LayeredGenerator,
        steps: int = 320,
        lr: float = 0.1,
        *,
        codes: int = 20,
        compose_side: int | None = None,
        alpha_init: AlphaInit = "uniform",
        optimizer: OptimizerName = "adam",
        schedule: Ramp | None = None,
        sphere: bool = False,
        noise: NoiseRule = "5+2k",
        perceptual: PictureDistance | None = None,
        perceptual_weight: float = 0.0,
        chunk: int = DEFAULT_CHUNK,
        **options: Any,
    ) -> None:
        super().__init__(generator, **options)
        if not isinstance(steps, int) or steps < 0:
            raise UserError(f"steps is {steps}: valid is a whole number of 0 or more")
        if not 0 < lr < float("inf"):
            raise UserError(f"lr is {lr}: valid is a positive number")
        for name, value in (("codes", codes), ("chunk", chunk)):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name} is {value}: valid is a whole number of 1 or more")
        if not 0 <= perceptual_weight < float("inf"):
            raise UserError(f"perceptual_weight is {perceptual_weight}: valid is a number >= 0")
        if (perceptual is None) != (perceptual_weight == 0):
            given = "no perceptual distance" if perceptual is None else "a perceptual distance"
            raise UserError(f"perceptual_weight is {perceptual_weight:g} with {given}: give both, or neither")
        check_choice("alpha init", alpha_init, AlphaInit)
        check_choice("optimizer", optimizer, OptimizerName)
        check_choice("noise rule", noise, NoiseRule)
        self.steps, self.lr, self.codes = steps, lr, codes
        self.cut = cut_of_side(generator, compose_side)
        self.alpha_init: AlphaInit = alpha_init
        self.optimizer: OptimizerName = optimizer
        self.schedule = schedule or Ramp()
        self.sphere = sphere
        self.moving_maps = noise_maps(noise, generator, 0)
        self.perceptual, self.perceptual_weight = perceptual, perceptual_weight
        self.chunk = chunk

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
        """Optimise once; see :meth:`Solver.attempt`."""
        G = self.generator
        noise = start_noise(G, image_ids, self.seed, restart)
        drawn = self._start(latents, image_ids, restart)
        variables = drawn | {f"noise_{i}": noise[i] for i in self.moving_maps}
        alive = torch.ones(len(y), dtype=torch.bool, device=y.device)
        history: dict[str, Tensor] = {}
        if self.steps:
            with G.computing_in(self.compute_dtype):
                outcome = self._optimise(variables, noise, latents, y, operator, split, alive, callback)
            variables, alive, history = outcome.variables, outcome.alive, outcome.history
        with torch.no_grad(), G.computing_in(None):
            x = to_unit(self._picture(variables, noise, latents))
            score = measurement_error(operator, x, y, None if split is None else split.heldout)
            v = self._of_codes(variables["v"])
            tensors = {"v": v, "ws": self._of_codes(latents.ws(variables["v"])), "alpha": variables["alpha"]}
        tensors["cut"] = torch.full((len(y),), self.cut, device=y.device)
        tensors |= {f"noise_{i}": variables.get(f"noise_{i}", fixed) for i, fixed in enumerate(noise)}
        status: list[Status] = ["ok" if ok else "diverged" for ok in alive.tolist()]
        x = x.clamp(0, 1)
        return Inversion(
            x=x,
            rounds=x[None],
            score=score,
            latents={name: t[None] for name, t in tensors.items()},
            history=history,
            status=status,
            seconds=0.0,
        )

    def _start(self, latents: Latents, image_ids: Sequence[str], restart: int) -> dict[str, Tensor]:
        """Return v as rows [N, K L, D], each with a norm to keep, and alpha [N, K, C]."""
        channels, device = self.generator.cut_shape(self.cut)[0], self.generator.device
        v = start_codes(self.codes, latents.rows, latents.dim, image_ids, self.seed, restart).flatten(1, 2)
        alpha = start_alpha(self.alpha_init, self.codes, channels, image_ids, self.seed, restart)
        return {"v": v.to(device), "alpha": alpha.to(device)}

    def _optimise(
        self,
        start: dict[str, Tensor],
        noise: list[Tensor],
        latents: Latents,
        y: Tensor,
        operator: Any,
        split: Split | None,
        alive: Tensor,
        callback: Callback | None,
    ) -> Optimised:
        perceptual = None if self.perceptual is None else PerceptualTerm(self.perceptual, operator, y, split)

        def evaluate(variables: dict[str, Tensor]) -> Evaluation:
            picture = self._picture(variables, noise, latents)
            x = to_unit(picture)
            terms, score = measurement_terms(operator, x, y, split)
            if perceptual is not None:
                terms["perceptual"] = Term(self.perceptual_weight, perceptual(x))
            return Evaluation(picture, terms, score)

        def on_iterate(step: int, picture: Tensor) -> None:
            if callback is not None:
                callback(0, step, to_unit(picture).clamp(0, 1))

        held = [name for name in start if name.startswith("noise_") or (name == "v" and self.sphere)]
        return optimise(
            start,
            evaluate,
            steps=self.steps,
            lr=self.lr,
            schedule=self.schedule,
            alive=alive,
            optimizer=self.optimizer,
            constraints={name: start_norms(start[name]) for name in held},
            keep_last=self.selection == "last",
            on_iterate=on_iterate,
        )

    def _picture(self, variables: dict[str, Tensor], noise: list[Tensor], latents: Latents) -> Tensor:
        """Return the picture of the variables in generator units."""
        maps = [variables.get(f"noise_{i}", fixed) for i, fixed in enumerate(noise)]
        ws = self._of_codes(latents.ws(variables["v"]))
        return picture_of_codes(self.generator, ws, variables["alpha"], maps, self.cut, self.chunk)

    def _of_codes(self, rows: Tensor) -> Tensor:
        """View rows [N, K L, D] as [N, K, L, D]."""
        return rows.unflatten(1, (self.codes, self.generator.num_ws))

    def _check(self, y: Tensor, operator: Any, ids: list[str]) -> None:
        super()._check(y, operator, ids)
        if self.perceptual is not None:
            check_pictures(y)


def cut_of_side(generator: LayeredGenerator, side: int | None) -> int:
    """Return the cut whose feature has this side in pixels; None for resolution/8, at least 4.

    Raises:
        UserError: The generator has no such cut.
    """
    cuts = {generator.cut_shape(k)[1]: k for k in range(1, generator.num_blocks + 1)}
    wanted = max(4, generator.resolution // 8) if side is None else side
    if wanted not in cuts:
        raise UserError(
            f"compose_side is {wanted}: this {generator.resolution} px generator has features of side "
            f"{', '.join(map(str, cuts))} px"
        )
    return cuts[wanted]
