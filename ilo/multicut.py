"""Multi-cut inversion: latents, noise maps and the deviations at several cuts, all from the start.

    min over v, noise, z1_1 .. z1_c  error(A G(v, noise, z1), y) + z1_weight sum_k ||z1_k||^2 / (2 sigma^2 size_k)

RTIL's additive branches train G with v, noise and one z1_k drawn at random (algorithm 1), so this is the family of its
training, entered at once rather than cut by cut as ILO does. Generator Surgery (Smedemark-Margulies et al. 2021) cuts
the first layers off and optimises what enters behind, an intermediate feature without a prior of its own; here the
layers before stay, and the deviation from what they say is what is weighed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ilo.rounds import ILOLatents, deviations_of
from ilo.settings import MultiCutSettings
from rtil.errors import UserError
from rtil.inverse.latent_space import LatentSpace, noise_maps
from rtil.inverse.loop import Term
from rtil.inverse.losses import gaussian_penalty
from rtil.inverse.one_round import OneRound, Terms, Variables
from rtil.inverse.problem import Problem
from rtil.inverse.starts import Shapes
from rtil.layout import trained_cuts


class MultiCut(OneRound):
    """Optimise latents, noise maps and deviations at cuts 1 to c in one round.

    Arguments are those of :class:`rtil.inverse.solver.Solver`, options those of
    :class:`ilo.settings.MultiCutSettings`.
    """

    Settings = MultiCutSettings
    Latents = ILOLatents
    FITS_NOISE = True
    settings: MultiCutSettings

    def resolved(self, settings: Any) -> Any:
        """Fill in steps, cuts and sigma; see :meth:`Solver.resolved`."""
        known, blocks = settings.of_checkpoint({}, []), self.generator.num_blocks
        if known.cuts > blocks:
            raise UserError(f"cuts is {known.cuts}: valid is at most {blocks}, the blocks of this generator")
        return super().resolved(known)

    @property
    def cuts(self) -> range:
        """Where deviations move."""
        return range(1, (self.settings.cuts or 0) + 1)

    def start_shapes(self) -> Shapes:
        """Return those of v, the noise maps and the deviations that move; see :meth:`Solver.start_shapes`."""
        return {**super().start_shapes(), **{f"z1_{k}": self.generator.cut_shape(k) for k in self.cuts}}

    def trained_otherwise(self, info: Mapping[str, Any]) -> bool:
        """Return whether deviations move where training had none; see :meth:`Solver.trained_otherwise`."""
        return bool(info.get("rtil")) and len(self.cuts) > trained_cuts(info)

    def _moving_maps(self) -> Sequence[int]:
        return noise_maps(self.settings.noise, self.generator, 0)

    def _start(self, problem: Problem) -> Variables:
        zeros = {
            f"z1_{k}": torch.zeros(len(problem.y), *self.generator.cut_shape(k), device=self.generator.device)
            for k in self.cuts
        }
        return super()._start(problem) | {name: problem.given.get(name, t) for name, t in zeros.items()}

    def _on_sphere(self, name: str) -> bool:
        return not name.startswith("z1_") and self.settings.sphere

    def _picture(self, variables: Variables, noise: list[Tensor], space: LatentSpace) -> Tensor:
        picture: Tensor = self.generator(space.ws(variables["v"]), noise, deviations_of(variables))
        return picture

    def _terms(self, problem: Problem) -> Terms:
        settings = self.settings

        def terms_at(x: Tensor, variables: Variables) -> tuple[dict[str, Term], Tensor]:
            terms, score = problem.measurement_terms(x)
            if settings.z1_weight and self.cuts:
                sigma = settings.z1_sigma or 1.0
                penalties = [gaussian_penalty(z1 / sigma) for z1 in deviations_of(variables).values()]
                terms["z1"] = Term(settings.z1_weight, torch.stack(penalties).sum(0))
            return terms, score

        return terms_at

    def _found(
        self, problem: Problem, variables: Variables, x: Tensor, history: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return super()._found(problem, variables, x, history) | {f"z1_{k}": variables[f"z1_{k}"] for k in self.cuts}
