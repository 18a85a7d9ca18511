"""mGANprior (Gu, Shen and Zhou, CVPR 2020): one picture from K codes, mixed channel by channel inside the generator.

    min over v_k, alpha_k, noise of  error(A tail(sum_k alpha_k * head(ws(v_k), noise), noise), y)
                                     + perceptual_weight distance(A x, y)

Heads of all images and codes run as rows of one batch (:mod:`rtil.generators.mixing`, which also says how the styles
of the tail and the picture so far mix). alpha [K, C] is free: neither positive nor summing to 1. The authors divide
the sum by K once more, a constant that is left out. With K = 1 and alpha = 1 the picture is CSGM's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mganprior.settings import MGANPriorSettings
from mganprior.start import start_alpha, start_codes
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.generators.mixing import picture_of_codes
from rtil.inverse.latent_space import LatentSpace, noise_maps
from rtil.inverse.latents import SolverLatents
from rtil.inverse.loop import Term
from rtil.inverse.one_round import OneRound, Terms, Variables
from rtil.inverse.problem import Problem
from rtil.inverse.settings import OptimizerName
from rtil.inverse.starts import Shapes, row_shape


class MGANPriorLatents(SolverLatents):
    """Codes v and ws [S, N, K, L, D], their weights ``alpha`` [S, N, K, C], the ``cut`` [S, N], noise maps."""

    OTHER_TYPES = {"cut": torch.int64}  # noqa: RUF012

    @property
    def alpha(self) -> Tensor:
        """Weights of the codes, [S, N, K, C]."""
        return self["alpha"]

    @property
    def cut(self) -> int:
        """Where the codes become one."""
        return int(self["cut"].flatten()[0])

    def image_shapes(self, generator: LayeredGenerator) -> Shapes:
        """Return those of codes, weights and the cut; see :meth:`SolverLatents.image_shapes`.

        Raises:
            UserError: There is no cut, or not one for all.
        """
        cut = self.get("cut")
        if cut is None or cut.is_floating_point() or cut.numel() == 0 or bool((cut != cut.flatten()[0]).any()):
            raise UserError("the latents hold no cut, one whole number for all images")
        if self["ws"].ndim != 5:
            raise UserError(f"the latents' ws has shape {list(self['ws'].shape)}: valid is [S, N, codes, rows, values]")
        codes, rows = self["ws"].shape[2], row_shape(generator)
        own = {"v": (codes, *rows), "ws": (codes, *rows), "cut": ()}
        return {**super().image_shapes(generator), **own, "alpha": (codes, generator.cut_shape(self.cut)[0])}

    def picture(self, generator: LayeredGenerator, chunk: int) -> Tensor:
        """Return the pictures of mixed codes; see :meth:`SolverLatents.picture`."""
        return picture_of_codes(generator, self.ws, self.alpha, self.noise, self.cut, chunk)


class MGANPrior(OneRound):
    """Optimise K codes, their weights per channel and the first noise maps, in one round.

    Arguments are those of :class:`rtil.inverse.solver.Solver`, options those of
    :class:`mganprior.settings.MGANPriorSettings`. With selection ``heldout`` the perceptual term does not see what is
    kept back.
    """

    Settings = MGANPriorSettings
    Latents = MGANPriorLatents
    settings: MGANPriorSettings

    def resolved(self, settings: Any) -> Any:
        """Fill in the side of the composition; see :meth:`Solver.resolved`."""
        if settings.pair != "common":
            raise UserError(f"pair '{settings.pair}' is another for each checkpoint: call settings.of_checkpoint first")
        G = self.generator
        side = max(4, G.resolution // 8) if settings.compose_side is None else settings.compose_side
        self.cut = cut_of_side(G, side)
        return super().resolved(settings.changed(compose_side=side))

    @property
    def optimizer(self) -> OptimizerName:
        """That of the settings."""
        return self.settings.optimizer

    def start_shapes(self) -> Shapes:
        """Return those of v, alpha, the noise maps and the cut; see :meth:`Solver.start_shapes`."""
        codes, channels = self.settings.codes, self.generator.cut_shape(self.cut)[0]
        own = {"v": (codes, *row_shape(self.generator)), "alpha": (codes, channels), "cut": ()}
        return {**super().start_shapes(), **own}

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

    def trained_otherwise(self, info: Mapping[str, Any]) -> bool:
        """Return whether training mixed no codes at this side; see :meth:`Solver.trained_otherwise`."""
        here = info.get("branches") == "mixture" and info.get("mixture_side") == self.settings.compose_side
        return bool(info.get("rtil")) and not here

    def _moving_maps(self) -> Sequence[int]:
        return noise_maps(self.settings.noise, self.generator, 0)

    def _start(self, problem: Problem) -> Variables:
        """Return v as rows [N, K L, D], each with a norm to keep, and alpha [N, K, C]."""
        codes, channels = self.settings.codes, self.generator.cut_shape(self.cut)[0]
        space, draw = problem.space, (problem.image_ids, problem.seed, problem.restart)
        v, alpha = problem.given.get("v"), problem.given.get("alpha")
        if v is None:
            v = start_codes(codes, space.rows, space.dim, *draw)
        if alpha is None:
            alpha = start_alpha(self.settings.alpha_init, codes, channels, *draw)
        return {"v": v.flatten(1, 2).to(space.device), "alpha": alpha.to(space.device)}

    def _terms(self, problem: Problem) -> Terms:
        perceptual = self.perceptual_term(problem)

        def terms_at(x: Tensor, variables: Variables) -> tuple[dict[str, Term], Tensor]:
            terms, score = problem.measurement_terms(x)
            if perceptual is not None:
                terms["perceptual"] = Term(self.settings.perceptual_weight, perceptual(x))
            return terms, score

        return terms_at

    def _on_sphere(self, name: str) -> bool:
        return name.startswith("noise_") or (name == "v" and self.settings.sphere)

    def _found(
        self, problem: Problem, variables: Variables, x: Tensor, history: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        rows = super()._found(problem, variables, x, history)
        of_codes = {name: self._of_codes(t) for name, t in rows.items()}
        return of_codes | {"alpha": variables["alpha"], "cut": torch.full((len(x),), self.cut, device=x.device)}

    def _picture(self, variables: Variables, noise: list[Tensor], space: LatentSpace) -> Tensor:
        ws = self._of_codes(space.ws(variables["v"]))
        return picture_of_codes(self.generator, ws, variables["alpha"], noise, self.cut, self.settings.chunk)

    def _of_codes(self, rows: Tensor) -> Tensor:
        """View rows [N, K L, D] as [N, K, L, D]."""
        return rows.unflatten(1, (self.settings.codes, self.generator.num_ws))


def cut_of_side(generator: LayeredGenerator, side: int) -> int:
    """Return the cut whose feature has this side in pixels.

    Raises:
        UserError: The generator has no such cut.
    """
    cuts = {generator.cut_shape(k)[1]: k for k in range(1, generator.num_blocks + 1)}
    if side not in cuts:
        raise UserError(
            f"compose_side is {side}: this {generator.resolution} px generator has features of side "
            f"{', '.join(map(str, cuts))} px"
        )
    return cuts[side]
