"""Image-adaptive generators: a few steps of the generator's own weights, for one picture each.

Where the latents ended, the weights theta of a copy of the generator that belongs to this picture alone go on,

    min over theta  error(A G_theta(z), y),

(IAGAN, Hussein, Tirer and Giryes 2020, equation 5, and PTI, Roich et al. 2022, with the latents held), so that pictures
off the generator's range can be met. Weights can fit anything, the more so the less is measured: a tenth of the
measurements is kept back, and of all steps, the start among them, that of lowest error on it is taken.

What is kept is the picture that the weights add, G_theta(z) - G(z): a result is rendered from it and its latents. The
copies move as one batch; their layers run one after the other, since fused operations take one set of weights.
"""

import torch
from torch import Tensor, nn

from rtil.generators.base import LayeredGenerator
from rtil.inverse.latents import SolverLatents
from rtil.inverse.loop import Evaluation, optimise
from rtil.inverse.losses import split_heldout
from rtil.inverse.problem import Problem
from rtil.inverse.schedules import Ramp
from rtil.layout import DEFAULT_CHUNK
from rtil.ranges import to_unit


class _Rendered(nn.Module):
    """A generator as a module that renders latents, so that it can be called with other weights."""

    def __init__(self, generator: LayeredGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: SolverLatents) -> Tensor:
        return latents.picture(self.generator, DEFAULT_CHUNK)


def adapted_picture(
    generator: LayeredGenerator, latents: SolverLatents, problem: Problem, steps: int, lr: float, dtype: torch.dtype
) -> Tensor:
    """Return what adapted weights add to the pictures of latents, [N, 3, R, R] in generator units.

    Args:
        generator: The prior, frozen; it is left as it is.
        latents: Of one attempt, [N, ...].
        problem: Of N images.
        steps: Adam steps.
        lr: Their learning rate.
        dtype: Of the layers while optimising.
    """
    rendered = _Rendered(generator)
    split = split_heldout(problem.operator, problem.y, problem.seed, selection="adapt_steps")
    judge = Problem(problem.y, problem.operator, split, problem.space, problem.image_ids, problem.seed)
    alone = [latents.mapped(lambda t, n=n: t[n : n + 1].detach().clone()) for n in range(len(problem.y))]  # type: ignore[misc]

    def picture(weights: dict[str, Tensor]) -> Tensor:
        of_images = (
            torch.func.functional_call(rendered, {name: t[n] for name, t in weights.items()}, (one,))
            for n, one in enumerate(alone)
        )
        return torch.cat(list(of_images))

    def evaluate(weights: dict[str, Tensor]) -> Evaluation:
        now = picture(weights)
        return Evaluation(now, *judge.measurement_terms(to_unit(now)))

    start = {name: t.detach().expand(len(alone), *t.shape) for name, t in _acting(rendered, alone[0]).items()}
    with generator.computing_in(dtype):
        found = optimise(start, evaluate, steps=steps, lr=lr, schedule=Ramp(0, 0), alive=problem.all_alive())
    with torch.no_grad(), generator.computing_in(None):
        before = latents.picture(generator, DEFAULT_CHUNK)
        moved = (found.chosen > 0).view(-1, 1, 1, 1)
        return torch.where(moved, picture(found.variables) - before, 0)


def _acting(rendered: _Rendered, latents: SolverLatents) -> dict[str, Tensor]:
    """Return the weights that the picture depends on: the mapping network has done its part."""
    weights = {name: t.detach().clone().requires_grad_() for name, t in rendered.named_parameters()}
    total = torch.func.functional_call(rendered, weights, (latents,)).square().sum()
    slopes = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    return {name: t for (name, t), slope in zip(weights.items(), slopes, strict=True) if slope is not None}
