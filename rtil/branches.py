"""The RTIL principle: give the layers an inverter will move random input.

Training sees branches 0..B-1 of *one* generator; branch 0 is the plain generator. There are two kinds:
    additive   branch j adds z1 ~ N(0, sigma^2) to the feature at cuts 1..j, cumulatively: ILO's latents (RTIL, 3.1).
    mixture    branch j mixes the features of N_j codes at one cut, with weights ~ Dirichlet(1, ..., 1), one scalar per
               code: mGANprior's latents (RTIL, 3.2; N = 1, 10, 20).
All branches share weights, discriminator and moving average. The objective is sum_j lambda_j loss(branch j): equation 2
with the lambdas explicit. Two estimators of it:
    ``all``      every branch on every step, as the published code does: about B times the cost.
    ``sampled``  every sample belongs to one branch drawn with probability lambda_j: unbiased, about the plain cost.
The discriminator compares the samples inside a minibatch-standard-deviation group, so a branch is drawn per *group*,
never per sample inside one, and stratified: the counts of a batch differ from their expectation by less than one group.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from rtil.devices import to_device
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.generators.mixing import head_of_rows, mix_rows
from rtil.layout import DEFAULT_CHUNK, MOST_CUTS, BranchKind, BranchWeights, Estimator
from rtil.ops import Drawn, Noise, draw_later, materialise


class Part(NamedTuple):
    """A batch to generate: the branch of every sample, [N], and the weight of the whole part in the loss."""

    branch: Tensor
    weight: float


class Branches(ABC):
    """What both kinds share: how branches are drawn, and how a branch makes pictures.

    Attributes:
        kind: ``additive`` or ``mixture``.
        weights: lambda_0..lambda_{B-1}, positive or zero, summing to 1.
        estimator: ``sampled`` or ``all``.
    """

    kind: ClassVar[BranchKind]
    weights: tuple[float, ...]
    estimator: Estimator

    @property
    def count(self) -> int:
        """Number of branches B."""
        return len(self.weights)

    @abstractmethod
    def codes_of(self, branch: Tensor) -> Tensor:
        """Return how many codes every sample takes, [N], from its branch [N]."""

    @abstractmethod
    def generate(
        self,
        generator: LayeredGenerator,
        ws: Tensor,
        noise: Sequence[Noise],
        branch: Tensor,
        rng: torch.Generator,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return the pictures [N, 3, R, R] of samples of the given branches.

        Args:
            generator: The generator.
            ws: [M, L, w_dim], the codes of the samples one after the other: M is the sum of their :meth:`codes_of`.
            noise: One [N, 1, H, W] map per noise input, or how to draw it.
            branch: [N], of a whole batch with ``rows``.
            rng: Source of the random input of the intermediate layers; only what is used is drawn.
            rows: Ascending, which samples of the batch to make, as they would be among all; None is all.
        """

    def code_rows(self, branch: Tensor, rows: Tensor | None) -> Tensor | slice:
        """Return which of a batch's codes are those of some rows, in order.

        Args:
            branch: [N] of the batch.
            rows: Ascending; None is all.
        """
        if rows is None:
            return slice(None)
        owner = torch.arange(len(branch)).repeat_interleave(self.codes_of(branch))
        return torch.isin(owner, rows).nonzero().squeeze(1)

    def parts(self, groups: Tensor, rng: torch.Generator) -> list[Part]:
        """Decide which branches a step runs.

        Args:
            groups: [N] group of every sample; samples of one group get one branch.
            rng: Source of the draw.
        """
        n = groups.numel()
        if self.estimator == "all":
            return [Part(torch.full((n,), j), w) for j, w in enumerate(self.weights) if w > 0]
        return [Part(self._stratified(int(groups.max()) + 1, rng)[groups], 1.0)]

    def _stratified(self, groups: int, rng: torch.Generator) -> Tensor:
        """Draw a branch per group, [M]: systematic sampling of the weights, then shuffled."""
        points = (torch.arange(groups) + torch.rand((), generator=rng)) / groups
        edges = torch.tensor(self.weights, dtype=torch.float64).cumsum(0)[:-1]
        return torch.searchsorted(edges.to(points.dtype), points, right=True)[torch.randperm(groups, generator=rng)]

    def _check_weights(self, branches: int) -> None:
        if len(self.weights) != branches:
            raise UserError(f"got {len(self.weights)} branch weights for {branches} branches: give one for each")
        if not (min(self.weights) >= 0 and abs(sum(self.weights) - 1) <= 1e-6):  # so that nan is refused too
            raise UserError(f"branch weights {list(self.weights)} are not valid: use numbers >= 0 that sum to 1")


@dataclass(frozen=True)
class AdditiveBranches(Branches):
    """Branches that add Gaussian noise to the features at cuts 1..j.

    Args:
        cuts: Number of cuts J; there are B = J + 1 branches. 0 is vanilla training.
        sigma: Standard deviation of z1, in units of the feature (which has about unit variance).
        weights: lambda_0..lambda_J.
        estimator: ``sampled`` or ``all``.

    Raises:
        UserError: If a value is out of range.
    """

    kind: ClassVar[BranchKind] = "additive"
    cuts: int
    sigma: float
    weights: tuple[float, ...]
    estimator: Estimator = "sampled"

    def __post_init__(self) -> None:
        self._check_weights(self.cuts + 1)
        if not 0 <= self.sigma < float("inf"):
            raise UserError(f"sigma {self.sigma} is not valid: use a number >= 0")

    def codes_of(self, branch: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones_like(branch)

    def generate(
        self,
        generator: LayeredGenerator,
        ws: Tensor,
        noise: Sequence[Noise],
        branch: Tensor,
        rng: torch.Generator,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return pictures with z1 added; see :meth:`Branches.generate`."""
        return generator(ws, noise, self.draw_z1(generator, branch, rng, rows))

    def draw_z1(
        self, generator: LayeredGenerator, branch: Tensor, rng: torch.Generator, rows: Tensor | None = None
    ) -> dict[int, Drawn]:
        """Choose z1 for every sample: {cut: how to draw it}, zero where the sample's branch does not reach the cut.

        Args:
            generator: While it grows, cuts without a block behind them are left out. Gives the device, too.
            branch: [N] branch of every sample, of a whole batch with ``rows``.
            rng: Source of the keys.
            rows: Which samples of the batch are made; None is all.
        """
        z1 = {}
        for cut in range(1, min(self.cuts, generator.num_blocks - 1) + 1):
            reached = (branch if rows is None else branch[rows]) >= cut
            drawn = draw_later(rng, to_device(reached * self.sigma, generator.device), rows)
            if reached.any():
                z1[cut] = drawn
        return z1


@dataclass(frozen=True)
class MixtureBranches(Branches):
    """Branches that mix the features of several codes at one cut.

    Args:
        codes: N_j of every branch; the first is 1, the plain generator.
        side: Side in pixels of the features that are mixed. A generator that has not grown so far mixes after its
            last block.
        weights: lambda of every branch.
        estimator: ``sampled`` or ``all``.
        chunk: Rows of codes whose head keeps its activations at one time.

    Raises:
        UserError: If a value is out of range.
    """

    kind: ClassVar[BranchKind] = "mixture"
    codes: tuple[int, ...]
    side: int
    weights: tuple[float, ...]
    estimator: Estimator = "sampled"
    chunk: int = DEFAULT_CHUNK

    def __post_init__(self) -> None:
        if not self.codes or self.codes[0] != 1 or any(n < 1 for n in self.codes):
            raise UserError(f"codes {list(self.codes)} is not valid: use whole numbers >= 1, the first one 1")
        if self.chunk < 1:
            raise UserError(f"chunk {self.chunk} is not valid: use a whole number of 1 or more")
        self._check_weights(len(self.codes))

    def codes_of(self, branch: Tensor) -> Tensor:
        """Return N_j of every sample's branch j."""
        return torch.tensor(self.codes)[branch]

    def generate(
        self,
        generator: LayeredGenerator,
        ws: Tensor,
        noise: Sequence[Noise],
        branch: Tensor,
        rng: torch.Generator,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return pictures of mixed codes; see :meth:`Branches.generate`."""
        codes = self.codes_of(branch if rows is None else branch[rows])
        if int(codes.max()) == 1:
            return generator(ws, noise)
        drawn = self.draw_weights(self.codes_of(branch), rng)
        own = drawn if rows is None else drawn[rows][:, self.code_rows(branch, rows)]
        weights = to_device(own, ws.device).to(ws.dtype)  # [N M]
        owner = to_device(torch.arange(len(codes)).repeat_interleave(codes), generator.device)
        cut = generator.last_cut_within(self.side)
        shapes = generator.noise_shapes()[: generator.noise_of_block(cut - 1).stop]
        like = ws.new_empty(1, 1, 1, 1)
        used = [materialise(noise[i], (len(codes), *shape), like)[owner] for i, shape in enumerate(shapes)]
        state = head_of_rows(generator, ws, used, cut, self.chunk)
        tail_ws = torch.einsum("nm,mld->nld", weights, ws)
        return generator.tail(mix_rows(state, weights), tail_ws, noise, cut)

    @staticmethod
    def draw_weights(codes: Tensor, rng: torch.Generator) -> Tensor:
        """Draw Dirichlet(1, ..., 1) weights for every sample.

        Args:
            codes: [N] codes of every sample.
            rng: Source of the draw.

        Returns:
            [N, M], M the sum of ``codes``: row n holds the weights of sample n's codes, and zeros.
        """
        total = int(codes.sum())
        owner = torch.arange(len(codes)).repeat_interleave(codes)
        weights = torch.zeros(len(codes), total)
        weights[owner, torch.arange(total)] = torch.empty(total).exponential_(generator=rng)
        return weights / weights.sum(dim=1, keepdim=True)


def branch_weights(count: int, weights: BranchWeights) -> tuple[float, ...]:
    """Return the lambdas of ``count`` branches.

    Args:
        count: Branches, the plain one included.
        weights: One for each; ``uniform`` as in the published code; ``paper`` puts 1/2 on the plain branch and shares
            the other half (equation 2 with lambda = 1/2).

    Example:
        >>> branch_weights(3, "paper")
        (0.5, 0.25, 0.25)
    """
    if count == 1:
        return (1.0,)
    if weights == "uniform":
        return (1 / count,) * count
    if weights == "paper":
        return (0.5, *[0.5 / (count - 1)] * (count - 1))
    return tuple(weights)


def additive_branches(
    rtil: bool,
    num_blocks: int,
    sigma: float = 1.0,
    weights: BranchWeights = "uniform",
    estimator: Estimator = "sampled",
) -> AdditiveBranches:
    """Return the branches of a generator with ``num_blocks`` blocks: cuts 1..min(4, num_blocks - 1), or vanilla."""
    cuts = min(MOST_CUTS, num_blocks - 1) if rtil else 0
    return AdditiveBranches(cuts, sigma, branch_weights(cuts + 1, weights), estimator)


def mixture_branches(
    rtil: bool,
    resolution: int,
    codes: Sequence[int] = (1, 10, 20),
    side: int | None = None,
    weights: BranchWeights = "uniform",
    estimator: Estimator = "sampled",
    chunk: int = DEFAULT_CHUNK,
) -> MixtureBranches:
    """Return the branches that mix codes of a generator of a final resolution, or vanilla.

    Args:
        rtil: False gives the single plain branch.
        resolution: Final side of the pictures.
        codes: N_j of every branch.
        side: Where the codes mix; None is resolution / 8, at least 4: the tail keeps real blocks.
        weights: See :func:`branch_weights`.
        estimator: ``sampled`` or ``all``.
        chunk: Rows of codes whose head keeps its activations at one time.

    Raises:
        UserError: If a value is out of range.
    """
    sides = [2**i for i in range(2, resolution.bit_length())]
    side = max(4, resolution // 8) if side is None else side
    if side not in sides:
        raise UserError(
            f"mixture_side {side} is not valid: this {resolution} px generator has features of side {sides}"
        )
    chosen = tuple(codes) if rtil else (1,)
    if rtil and max(chosen, default=1) < 2:
        raise UserError(f"codes {list(chosen)} mixes nothing: add a number of 2 or more, or leave rtil away")
    return MixtureBranches(chosen, side, branch_weights(len(chosen), weights), estimator, chunk)
