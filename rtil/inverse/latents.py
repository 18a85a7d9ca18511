"""The latents that a solver finds: named tensors, and how a picture is rendered from them.

Each solver has a class of its own, which knows what its tensors mean; :class:`SolverLatents` knows those that all have.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.starts import ADAPTED, Shapes, noise_start_shapes, row_shape
from rtil.layout import DEFAULT_CHUNK
from rtil.ranges import to_unit


class SolverLatents(Mapping[str, Tensor]):
    """Tensors [S, N, ...] by name, as result files hold them: ``v``, ``ws``, ``noise_0``, ...

    Args:
        tensors: Of N images and S attempts, whose pictures are averaged. An inversion can start from them
            (``start_from`` of :meth:`rtil.inverse.solver.Solver.invert`), from those of type bool aside, which tell of
            an outcome.
    """

    OTHER_TYPES: ClassVar[Mapping[str, torch.dtype]] = {}
    """Of tensors that are not float32, by name."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def v(self) -> Tensor:
        """Proxies, [S, N, L, D]."""
        return self["v"]

    @property
    def ws(self) -> Tensor:
        """Style rows, [S, N, L, D]."""
        return self["ws"]

    @property
    def noise(self) -> list[Tensor]:
        """All noise maps, [S, N, 1, H, W] each."""
        maps = sum(name.startswith("noise_") for name in self)
        return [self[f"noise_{i}"] for i in range(maps)]

    @property
    def converged(self) -> list[bool] | None:
        """Whether all attempts at an image met its measurements, N times; None for solvers without a tolerance."""
        return None

    def image_shapes(self, generator: LayeredGenerator) -> Shapes:
        """Return the shapes that the tensors have for one image and attempt, by name; further tensors may be there."""
        rows = row_shape(generator)
        side = generator.resolution
        adapted = {ADAPTED: (3, side, side)} if ADAPTED in self else {}
        return {"v": rows, "ws": rows, **noise_start_shapes(generator), **adapted}

    def check(self, generator: LayeredGenerator, images: int) -> None:
        """Raise UserError unless pictures of so many images can be rendered from the tensors.

        Args:
            generator: The one that was inverted.
            images: N.
        """
        shapes, attempts = self.image_shapes(generator), len(self["ws"])
        missing = [name for name in shapes if name not in self and name != "v"]
        if missing:
            raise UserError(f"the latents lack {', '.join(missing)}")
        for name, t in self.items():
            if name.startswith("noise_") and name not in shapes:
                raise UserError(f"the latents have the noise map {name}, which this generator does not have")
            if t.dtype != (dtype := self.OTHER_TYPES.get(name, torch.float32)):
                raise UserError(f"the latents' {name} is {t.dtype}: valid is {dtype}")
            shape = shapes.get(name, tuple(t.shape[2:]))
            if tuple(t.shape) != (attempts, images, *shape):
                valid = [attempts, images, *shape]
                raise UserError(f"the latents' {name} has shape {list(t.shape)}: valid is {valid} for this generator")

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return latents in which each tensor is changed."""
        return type(self)({name: change(t) for name, t in self.items()})

    def render(self, generator: LayeredGenerator, chunk: int = DEFAULT_CHUNK) -> Tensor:
        """Return the pictures [N, 3, R, R] in [0, 1], clamped.

        It needs a generator whose style rows and noise maps each act on one side of a cut, as those of this project do.

        Args:
            generator: The one that was inverted.
            chunk: Rows of codes that run at a time, where pictures have several codes.
        """
        return self.render_attempts(generator, chunk).mean(0)

    @torch.no_grad()
    def render_attempts(self, generator: LayeredGenerator, chunk: int = DEFAULT_CHUNK) -> Tensor:
        """Return the pictures [S, N, 3, R, R] whose mean :meth:`render` returns; its arguments."""
        with generator.computing_in(None):
            # copies: a matrix product's last bits depend on where in memory its factors begin
            attempts = [self.mapped(lambda t, s=s: t[s].clone()) for s in range(len(self.ws))]  # type: ignore[misc]
            pictures = [attempt.picture(generator, chunk) + attempt.get(ADAPTED, 0.0) for attempt in attempts]
            return torch.stack([to_unit(picture).clamp(0, 1) for picture in pictures])

    def picture(self, generator: LayeredGenerator, chunk: int) -> Tensor:
        """Return the pictures [N, 3, R, R] in generator units of latents [N, ...], which are those of one attempt."""
        picture: Tensor = generator(self.ws, self.noise)
        return picture
