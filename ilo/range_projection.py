"""Projection back to the range (ILO, algorithm 1, lines 5 and 6).

After the rounds the feature at the last cut k, deviations included, is in general no output of the layers before it.
The latents and noise maps of these layers are moved until their output, without any deviation, is near it:

    min over v, noise of  ||G_1(v, noise) - feature||^2 / ||feature||^2,    G_1: blocks 0..k-1.

In algorithm 1 the latents lie in an l2 ball around zero, here on the spheres of their norms; its l1 balls, in which
rounds may be held, are around features and not for this step. Rounds then start anew from there. What acts behind the
cut stays.
"""

import torch
from torch import Tensor

from ilo.rounds import Point
from ilo.settings import ILOSettings
from rtil.generators.base import LayeredGenerator
from rtil.inverse.constraints import start_norms
from rtil.inverse.latent_space import LatentSpace, noise_maps
from rtil.inverse.loop import RANGE, Evaluation, Optimised, Term, optimise


def project_to_range(
    generator: LayeredGenerator, space: LatentSpace, point: Point, settings: ILOSettings, alive: Tensor
) -> tuple[Point, Optimised]:
    """Return the nearest point at the input, and how it was found; "range" is in its history.

    It has no deviations up to the cut; those behind it, which were given at the start, stay.

    Args:
        generator: The prior.
        space: Its input space.
        point: At a cut.
        settings: Of the rounds. The noise maps that they move in any round before the cut move, as far as they act
            before it; the learning rate is that of round 0.
        alive: [N] bool; the others are not moved.
    """
    cut, row = point.cut, generator.first_row_behind(point.cut)
    before = generator.noise_of_block(cut).start
    maps = sorted({i for k in range(cut) for i in noise_maps(settings.noise, generator, k) if i < before})
    moved = point.entered
    assert moved is not None  # noqa: S101  the point is behind a cut
    target = moved.feature
    size = target.square().flatten(1).sum(1)
    behind = space.ws(point.v[:, row:])
    start = {"v": point.v[:, :row]} | {f"noise_{i}": point.noise[i] for i in maps}

    def noise(variables: dict[str, Tensor]) -> list[Tensor]:
        return [variables.get(f"noise_{i}", fixed) for i, fixed in enumerate(point.noise)]

    def evaluate(variables: dict[str, Tensor]) -> Evaluation:
        ws = torch.cat([space.ws(variables["v"]), behind], dim=1)
        feature = generator.head(ws, noise(variables), cut).feature
        distance = (feature - target).square().flatten(1).sum(1) / size
        return Evaluation(feature, {RANGE: Term(1.0, distance)}, distance)

    outcome = optimise(
        start,
        evaluate,
        steps=settings.range_steps,
        lr=settings.lrs()[0],
        schedule=settings.ramp,
        alive=alive,
        constraints={name: start_norms(t) for name, t in start.items()} if settings.sphere else {},
    )
    v = torch.cat([outcome.variables["v"], point.v[:, row:]], dim=1)
    return Point(v, noise(outcome.variables), point.z1_behind), outcome
