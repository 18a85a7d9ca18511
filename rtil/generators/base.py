"""The contract every generator follows, so that any inverter can enter it at any depth.

A generator is a stack of blocks 0..B-1. **Cut k** (1 <= k <= B) lies after block k-1's last activation and before
that block's ToRGB; what crosses it is a :class:`State`: the feature map and the picture accumulated so far. A
perturbation of the feature at a cut therefore reaches the picture both ways, in training (RTIL's z1) and in
inversion (ILO's z1) alike. Two identities hold for every cut and are tested for every architecture:

    tail(head(ws, noise, k), ws, noise, k) == forward(ws, noise)
    advance(advance(s, ..., a, b), ..., b, c) == advance(s, ..., a, c)
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from rtil.devices import to_device
from rtil.errors import UserError
from rtil.generators.recompute import recomputed
from rtil.ops.counter import Noise

LatentKind = Literal["gaussian_wplus", "z"]
T = TypeVar("T")


class State(NamedTuple):
    """What crosses a cut.

    Attributes:
        feature: [N, C_k, H_k, W_k] after the last activation of block k-1.
        rgb: [N, 3, H_{k-1}, W_{k-1}] picture accumulated by the ToRGBs of blocks 0..k-2; None before the first.
    """

    feature: Tensor
    rgb: Tensor | None


class LayeredGenerator(nn.Module, ABC):
    """A generator that can be stopped, perturbed and entered between its blocks.

    Attributes:
        arch: Name of the architecture, as in ``--arch``.
        resolution: Side of the output picture in pixels.
        z_dim: Entries of a latent code z.
        num_blocks: Blocks B; cuts are 1..B.
        num_ws: Style slots L of ``ws``.
        channels: {side: width} of every block, from the first.
        latent_space: How an inverter may move: ``gaussian_wplus`` (rows of ws, seen through a Gaussian fit of the
            mapping network) or ``z`` (ws is z itself).
        compute_dtype: Type of the convolutions and activations; parameters stay float32, pictures leave as float32.
        activation_checkpointing: Keep each block's input only for a backward pass (:mod:`rtil.generators.recompute`).
    """

    arch: ClassVar[str]
    latent_space: ClassVar[LatentKind]
    resolution: int
    z_dim: int
    num_blocks: int
    num_ws: int
    channels: dict[int, int]
    compute_dtype: torch.dtype | None = None
    activation_checkpointing: bool = False

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Constructor arguments as plain JSON values: ``type(g)(**g.config)`` has the same shapes."""

    @abstractmethod
    def mapping(self, z: Tensor) -> Tensor:
        """Map z [N, z_dim] to ws [N, L, w_dim]."""

    def truncate(self, ws: Tensor, psi: float) -> Tensor:
        """Pull ws [N, L, w_dim] towards the mean style: psi 1 changes nothing; where there are no styles, none does."""
        return ws

    def noise_shapes(self) -> list[tuple[int, int, int]]:
        """Return (1, H, W) of every noise map, in the order in which the layers use them; there may be none."""
        return []

    def noise_of_block(self, block: int) -> range:
        """Return the indices of the noise maps that a block uses."""
        return range(0)

    @abstractmethod
    def first_row_behind(self, cut: int) -> int:
        """Return the first row of ws that acts behind a cut (0: the input), or L when none does.

        Rows act in the order of their layers: those before it act before the cut only.
        """

    def cut_shape(self, k: int) -> tuple[int, int, int]:
        """Return (C_k, H_k, W_k) of the feature at cut k."""
        self.check_cut(k)
        side = 2 ** (k + 1)
        return self.channels[side], side, side

    @abstractmethod
    def run_block(self, index: int, state: State | None, ws: Tensor, noise: Sequence[Noise], z1: Noise | None) -> State:
        """Run one block from the state at cut ``index`` (None is the input) to the next; z1 is added to its feature."""

    def advance(
        self,
        state: State | None,
        ws: Tensor,
        noise: Sequence[Noise],
        start: int,
        stop: int,
        z1: Mapping[int, Noise] | None = None,
    ) -> State:
        """Run blocks start..stop-1.

        Args:
            state: The state at cut ``start``; None when start is 0.
            ws: [N, L, w_dim].
            noise: One [N or 1, 1, H, W] map per entry of :meth:`noise_shapes`, or how to draw it.
            start: First block to run.
            stop: Cut at which to stop.
            z1: {cut: [N, C_k, H_k, W_k], or how to draw it}, added to the feature on arrival at cuts start+1..stop.

        Returns:
            The state at cut ``stop``.

        Raises:
            UserError: The state is missing.
        """
        for block in range(start, stop):
            if block and state is None:
                raise UserError(f"advance from block {start} needs the state at cut {start}")
            state = self._run(self.run_block, block, state, ws, noise, None if z1 is None else z1.get(block + 1))
        if state is None:
            raise UserError("advance over no block needs a state")
        return state

    @abstractmethod
    def finish(self, state: State, ws: Tensor) -> Tensor:
        """Turn the state at the last cut, B, into the picture [N, 3, H, W], float32, nominally in [-1, 1]."""

    def head(self, ws: Tensor, noise: Sequence[Noise], k: int, z1: Mapping[int, Noise] | None = None) -> State:
        """Run from the input to cut k."""
        self.check_cut(k)
        return self.advance(None, ws, noise, 0, k, z1)

    def tail(
        self, state: State, ws: Tensor, noise: Sequence[Noise], k: int, z1: Mapping[int, Noise] | None = None
    ) -> Tensor:
        """Run from cut k to the raw picture [N, 3, H, W], float32, not clamped."""
        self.check_cut(k)
        return self._run(self.finish, self.advance(state, ws, noise, k, self.num_blocks, z1), ws)

    def forward(self, ws: Tensor, noise: Sequence[Noise], z1: Mapping[int, Noise] | None = None) -> Tensor:
        """Run from ws [N, L, w_dim] to the raw picture [N, 3, H, W]."""
        return self._run(self.finish, self.advance(None, ws, noise, 0, self.num_blocks, z1), ws)

    def _run(self, layers: Callable[..., T], *inputs: Any) -> T:
        """Run layers, whose activations are kept for the backward pass or computed again in it."""
        if not self.activation_checkpointing:
            return layers(*inputs)
        dtype = self.compute_dtype

        def in_same_type(*again: Any) -> T:
            with self.computing_in(dtype):  # the backward pass may run outside the context
                return layers(*again)

        return recomputed(in_same_type, *inputs)

    def check_cut(self, k: int) -> None:
        """Raise UserError if this generator has no cut k."""
        if not 1 <= k <= self.num_blocks:
            raise UserError(
                f"cut {k} does not exist: this {self.resolution} px generator has cuts 1..{self.num_blocks}"
            )

    def last_cut_within(self, side: int) -> int:
        """Return the last cut whose feature is at most ``side`` pixels wide."""
        return max(k for k in range(1, self.num_blocks + 1) if self.cut_shape(k)[1] <= side)

    def draw_z(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw z [n, z_dim] ~ N(0, I) on this generator's device."""
        return to_device(torch.randn(n, self.z_dim, generator=generator), self.device)

    def draw_noise(self, n: int, generator: torch.Generator) -> list[Tensor]:
        """Draw one N(0, 1) map [n, 1, H, W] per noise input."""
        return [to_device(torch.randn(n, *shape, generator=generator), self.device) for shape in self.noise_shapes()]

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def in_compute_type(self, x: Tensor) -> Tensor:
        """Return x in the type of the layers."""
        return x if self.compute_dtype is None else x.to(self.compute_dtype)

    @contextmanager
    def computing_in(self, dtype: torch.dtype | None) -> Iterator[None]:
        """Run the layers in ``dtype`` (None: the parameters' own) inside the ``with`` block."""
        before, self.compute_dtype = self.compute_dtype, dtype
        try:
            yield
        finally:
            self.compute_dtype = before


def weight_hash(module: nn.Module) -> str:
    """Return the SHA-256 over names, shapes and values of a module's state, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_strictly(generator: LayeredGenerator, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a generator: all of them, of the right shapes, and finite.

    Raises:
        UserError: They are not.
    """
    expected = generator.state_dict()
    if wrong := sorted(expected.keys() ^ weights.keys()):
        raise UserError(f"{len(wrong)} weights are missing or unknown: {', '.join(wrong[:5])}")
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            raise UserError(f"weight '{name}' has shape {list(weight.shape)}, not {list(expected[name].shape)}")
        if weight.is_floating_point() != expected[name].is_floating_point():
            raise UserError(f"weight '{name}' is of type {weight.dtype}, not {expected[name].dtype}")
        if not bool(weight.to(expected[name].dtype).isfinite().all()):
            raise UserError(f"weight '{name}' is not finite")
    generator.load_state_dict(dict(weights))
