"""One round of ILO: what is frozen, what moves, and the picture that both make."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator, State
from rtil.inverse.latent_space import LatentSpace, noise_maps
from rtil.inverse.latents import SolverLatents
from rtil.inverse.settings import NoiseRule
from rtil.inverse.starts import Shapes


class ILOLatents(SolverLatents):
    """Latents, noise maps and the deviations ``z1_k`` at the cuts."""

    @property
    def z1(self) -> dict[int, Tensor]:
        """The deviations [S, N, C_k, H_k, W_k] by cut."""
        return deviations_of(self)

    def image_shapes(self, generator: LayeredGenerator) -> Shapes:
        """Return those of all, and of the deviations that there are; see :meth:`SolverLatents.image_shapes`."""
        return {**super().image_shapes(generator), **{f"z1_{k}": generator.cut_shape(k) for k in self.z1}}

    def picture(self, generator: LayeredGenerator, chunk: int) -> Tensor:
        """Return the pictures with their deviations; see :meth:`SolverLatents.picture`."""
        picture: Tensor = generator(self.ws, self.noise, self.z1)
        return picture


@dataclass(frozen=True)
class Point:
    """One value of everything that ILO ever optimises.

    Attributes:
        v: Proxies [N, L, D].
        noise: All noise maps, [N, 1, H, W] each.
        z1: Deviations [N, C_k, H_k, W_k] by cut: of rounds that were entered, and those that were given at the start,
            which act from then on.
        cut: Where the current round enters; 0 is the input.
        base: State at that cut without its own z1; None at the input.
    """

    v: Tensor
    noise: list[Tensor]
    z1: dict[int, Tensor]
    cut: int = 0
    base: State | None = None

    @classmethod
    def of(cls, generator: LayeredGenerator, space: LatentSpace, latents: Mapping[str, Tensor]) -> "Point":
        """Return the point of :meth:`latents`, at the last cut that has a deviation."""
        noise = [latents[f"noise_{i}"] for i in range(len(generator.noise_shapes()))]
        point = cls(latents["v"], noise, deviations_of(latents))
        with generator.computing_in(None):
            k = max(point.z1, default=0)
            return enter(generator, space, point, k, point.z1.get(k))

    @torch.no_grad()
    def latents(self, space: LatentSpace) -> dict[str, Tensor]:
        """Return the tensors, [N, ...] each, from which its picture is rendered again."""
        tensors = {"v": self.v, "ws": space.ws(self.v)} | {f"noise_{i}": t for i, t in enumerate(self.noise)}
        return tensors | {f"z1_{k}": z1 for k, z1 in self.z1.items()}

    @property
    def entered(self) -> State | None:
        """The state at the cut, its z1 included."""
        if self.base is None:
            return None
        return State(self.base.feature + self.z1[self.cut], self.base.rgb)

    @property
    def z1_behind(self) -> dict[int, Tensor]:
        """The deviations behind the cut."""
        return {k: z1 for k, z1 in self.z1.items() if k > self.cut}


@torch.no_grad()
def enter(generator: LayeredGenerator, space: LatentSpace, point: Point, k: int, z1: Tensor | None) -> Point:
    """Move on to cut k: its state is what ``point`` leads to.

    Args:
        generator: In the type of the final render.
        space: Its input space.
        point: Of an earlier round.
        k: The cut; 0 leaves the point as it is.
        z1: Where the deviation starts; None for zero.
    """
    if k == 0:
        return point
    before = {cut: deviation for cut, deviation in point.z1_behind.items() if cut < k}
    base = generator.advance(point.entered, space.ws(point.v), point.noise, point.cut, k, before)
    start = torch.zeros_like(base.feature) if z1 is None else torch.empty_like(base.feature).copy_(z1)
    return replace(point, z1={**point.z1, k: start}, cut=k, base=base)


@torch.no_grad()
def render(generator: LayeredGenerator, space: LatentSpace, point: Point) -> Tensor:
    """Return the picture of a point, [N, 3, R, R] in generator units."""
    return picture_behind(generator, point, point.entered, space.ws(point.v), point.noise)


def picture_behind(
    generator: LayeredGenerator, point: Point, state: State | None, ws: Tensor, noise: list[Tensor]
) -> Tensor:
    """Run from the cut of a point, 0 being the input, to the picture, with the point's deviations behind the cut."""
    return generator.finish(generator.advance(state, ws, noise, point.cut, generator.num_blocks, point.z1_behind), ws)


def deviations_of(tensors: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Return the ``z1_k`` among the tensors by cut.

    Raises:
        UserError: One of that name has no whole number behind it.
    """
    deviations = {}
    for name, t in tensors.items():
        cut = name.removeprefix("z1_")
        if cut != name:
            if not (cut.isdecimal() and str(int(cut)) == cut):
                raise UserError(f"the deviation {name} is at no cut: valid are z1_1, z1_2, ...")
            deviations[int(cut)] = t
    return deviations


class Variables:
    """The part of a point that a round moves, by name, and the way back.

    Names: ``v`` (style rows behind the cut), ``noise_i``, ``z1``.

    Args:
        generator: The prior.
        space: Its input space.
        point: Where the round starts, on its cut.
        rule: Which noise maps move.
    """

    def __init__(self, generator: LayeredGenerator, space: LatentSpace, point: Point, rule: NoiseRule) -> None:
        self.generator, self.space, self.point = generator, space, point
        self.row = generator.first_row_behind(point.cut)
        self.maps = noise_maps(rule, generator, point.cut)
        self.frozen_ws = space.ws(point.v[:, : self.row])

    @property
    def start(self) -> dict[str, Tensor]:
        """The variables at the start of the round."""
        variables = {f"noise_{i}": self.point.noise[i] for i in self.maps}
        if self.row < self.point.v.shape[1]:
            variables["v"] = self.point.v[:, self.row :]
        if self.point.cut:
            variables["z1"] = self.point.z1[self.point.cut]
        return variables

    def noise(self, variables: dict[str, Tensor]) -> list[Tensor]:
        """Return all noise maps."""
        return [variables.get(f"noise_{i}", fixed) for i, fixed in enumerate(self.point.noise)]

    def picture(self, variables: dict[str, Tensor]) -> Tensor:
        """Return the picture of the variables in generator units."""
        ws = self.frozen_ws
        if "v" in variables:
            ws = torch.cat([ws, self.space.ws(variables["v"])], dim=1)
        state = self.point.base
        if state is not None:
            state = State(state.feature + variables["z1"], state.rgb)
        return picture_behind(self.generator, self.point, state, ws, self.noise(variables))

    def point_of(self, variables: dict[str, Tensor]) -> Point:
        """Return the point at which the variables are."""
        v = torch.cat([self.point.v[:, : self.row], variables["v"]], dim=1) if "v" in variables else self.point.v
        z1 = {**self.point.z1, self.point.cut: variables["z1"]} if self.point.cut else self.point.z1
        return replace(self.point, v=v, noise=self.noise(variables), z1=z1)
