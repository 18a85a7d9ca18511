"""mGANprior (Gu, Shen and Zhou, CVPR 2020): one picture from K codes, mixed channel by channel inside the generator.

    min over v_k, alpha_k, noise of  error(A tail(sum_k alpha_k * head(ws(v_k), noise), noise), y)
                                     + perceptual_weight distance(A x, y)

Heads of all images and codes run as rows of one batch (:mod:`rtil.generators.mixing`, which also says how the styles
of the tail and the picture so far mix). alpha [K, C] is free: neither positive nor summing to 1. The authors divide
the sum by K once more, a constant that is left out. With K = 1 and alpha = 1 the picture is CSGM's.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ilo.rounds import NoiseRule, noise_maps
from mganprior.start import AlphaInit, start_alpha, start_codes
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.generators.mixing import DEFAULT_CHUNK, picture_of_codes
from rtil.inverse.latents import Latents
from rtil.inverse.loop import OptimizerName, Term, measurement_terms
from rtil.inverse.one_round import Objective, OneRound, Variables
from rtil.inverse.perceptual_term import PerceptualTerm, PictureDistance, check_pictures
from rtil.inverse.problem import Problem
from rtil.inverse.schedules import Ramp
from rtil.inverse.solver import check_choice
from rtil.inverse.starts import Shapes, noise_start_shapes, row_shape


class MGANPrior(OneRound):
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
        check_choice("noise rule", noise, NoiseRule)
        moving_maps = noise_maps(noise, generator, 0)
        super().__init__(generator, steps, lr, schedule or Ramp(), moving_maps, optimizer, **options)
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
        self.codes = codes
        self.cut = cut_of_side(generator, compose_side)
        self.alpha_init: AlphaInit = alpha_init
        self.sphere = sphere
        self.perceptual, self.perceptual_weight = perceptual, perceptual_weight
        self.chunk = chunk

    def start_shapes(self) -> Shapes:
        """Return those of v, alpha, the noise maps and the cut; see :meth:`Solver.start_shapes`."""
        G = self.generator
        alpha = (self.codes, G.cut_shape(self.cut)[0])
        return {"v": (self.codes, *row_shape(G)), "alpha": alpha, "cut": (), **noise_start_shapes(G)}

    def check_start(self, start_from: Mapping[str, Tensor], images: int) -> None:
        """Raise UserError unless an inversion of so many images can start there; see :meth:`Solver.check_start`."""
        super().check_start(start_from, images)
        cuts = start_from.get("cut")
        if cuts is not None and bool((cuts != self.cut).any()):
            other = next(cut for cut in cuts.flatten().tolist() if cut != self.cut)
            raise UserError(
                f"the codes in start_from become one at cut {other:g} but here at cut {self.cut}: give the same "
                "compose_side"
            )

    def _start(self, problem: Problem) -> Variables:
        """Return v as rows [N, K L, D], each with a norm to keep, and alpha [N, K, C]."""
        channels, device = self.generator.cut_shape(self.cut)[0], self.generator.device
        latents, draw = problem.latents, (problem.image_ids, problem.seed, problem.restart)
        v, alpha = problem.given.get("v"), problem.given.get("alpha")
        if v is None:
            v = start_codes(self.codes, latents.rows, latents.dim, *draw)
        if alpha is None:
            alpha = start_alpha(self.alpha_init, self.codes, channels, *draw)
        return {"v": v.flatten(1, 2).to(device), "alpha": alpha.to(device)}

    def _objective(self, problem: Problem) -> Objective:
        operator, y, split = problem.operator, problem.y, problem.split
        perceptual = None if self.perceptual is None else PerceptualTerm(self.perceptual, operator, y, split)

        def terms_at(x: Tensor, variables: Variables) -> tuple[dict[str, Term], Tensor]:
            terms, score = measurement_terms(operator, x, y, split)
            if perceptual is not None:
                terms["perceptual"] = Term(self.perceptual_weight, perceptual(x))
            return terms, score

        return terms_at

    def _on_sphere(self, name: str) -> bool:
        return name.startswith("noise_") or (name == "v" and self.sphere)

    def _found(
        self, problem: Problem, variables: Variables, x: Tensor, history: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return v and ws [N, K, L, D], alpha and the cut, [N]."""
        v, ws = variables["v"], problem.latents.ws(variables["v"])
        cut = torch.full((len(v),), self.cut, device=v.device)
        return {"v": self._of_codes(v), "ws": self._of_codes(ws), "alpha": variables["alpha"], "cut": cut}

    def _picture(self, variables: Variables, noise: list[Tensor], latents: Latents) -> Tensor:
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
