"""The RTIL principle: give the layers an inverter will move random input.

Training sees branches 0..B-1 of *one* generator. Branch 0 is the plain generator; branch j adds z1 ~ N(0, sigma^2) to
the feature at cuts 1..j, cumulatively (RTIL, section 3.1 and figure 2: z0, z1, z2, ...). All branches share weights,
discriminator and moving average. The objective is sum_j lambda_j loss(branch j): equation 2 with the lambdas explicit.

Two estimators of it:
    ``all``      every branch on every step, as the published code does: about B times the cost.
    ``sampled``  every sample belongs to one branch drawn with probability lambda_j: unbiased, about the plain cost.
The discriminator compares samples inside a minibatch-standard-deviation group, so a branch is drawn per *group*, never
per sample inside one, and stratified: the counts of a batch differ from their expectation by less than one group.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator

Estimator = Literal["sampled", "all"]


class Part(NamedTuple):
    """A batch to generate: the branch of every sample, [N], and the weight of the whole part in the loss."""

    branch: Tensor
    weight: float


@dataclass(frozen=True)
class AdditiveBranches:
    """Branches that add Gaussian noise to the features at cuts 1..j.

    Args:
        cuts: Number of cuts J; there are B = J + 1 branches. 0 is vanilla training.
        sigma: Standard deviation of z1, in units of the feature (which has about unit variance).
        weights: lambda_0..lambda_J, positive or zero, summing to 1.
        estimator: ``sampled`` or ``all``.

    Raises:
        UserError: If a value is out of range.
    """

    cuts: int
    sigma: float
    weights: tuple[float, ...]
    estimator: Estimator = "sampled"

    def __post_init__(self) -> None:
        if len(self.weights) != self.cuts + 1:
            raise UserError(f"got {len(self.weights)} branch weights for {self.cuts + 1} branches: give one for each")
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise UserError(f"branch weights {list(self.weights)} are not valid: use numbers >= 0 that sum to 1")
        if not 0 <= self.sigma < float("inf"):
            raise UserError(f"sigma {self.sigma} is not valid: use a number >= 0")

    @property
    def count(self) -> int:
        """Number of branches B."""
        return self.cuts + 1

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

    def draw_z1(self, generator: LayeredGenerator, branch: Tensor, rng: torch.Generator) -> dict[int, Tensor]:
        """Draw z1 for every sample: {cut: [N, C, H, W]}, zero where the sample's branch does not reach the cut.

        Args:
            generator: Gives the shapes and the device.
            branch: [N] branch of every sample.
            rng: Source of the draw; only what is used is drawn.
        """
        z1 = {}
        for cut in range(1, self.cuts + 1):
            reached = (branch >= cut).nonzero().squeeze(1)
            if len(reached) == 0:
                continue
            C, H, W = generator.cut_shape(cut)
            noise = torch.randn(len(reached), H, W, C, generator=rng).permute(0, 3, 1, 2) * self.sigma
            full = torch.zeros(len(branch), H, W, C).permute(0, 3, 1, 2)  # channels_last, as the features
            z1[cut] = full.index_copy_(0, reached, noise).to(generator.device)
        return z1


def additive_branches(
    rtil: bool,
    num_blocks: int,
    sigma: float = 1.0,
    weights: list[float] | Literal["uniform", "paper"] = "uniform",
    estimator: Estimator = "sampled",
) -> AdditiveBranches:
    """Return the branches of a generator with ``num_blocks`` blocks: cuts 1..min(4, num_blocks - 1), or vanilla.

    Args:
        rtil: False gives the single plain branch.
        num_blocks: Blocks of the generator.
        sigma: Standard deviation of z1.
        weights: One lambda per branch; ``uniform`` as in the published code; ``paper`` puts 1/2 on the plain branch
            and shares the other half (equation 2 with lambda = 1/2).
        estimator: ``sampled`` or ``all``.
    """
    cuts = min(4, num_blocks - 1) if rtil else 0
    if not rtil:
        values = [1.0]
    elif weights == "uniform":
        values = [1 / (cuts + 1)] * (cuts + 1)
    elif weights == "paper":
        values = [0.5] + [0.5 / cuts] * cuts
    else:
        values = list(weights)
    return AdditiveBranches(cuts, sigma, tuple(values), estimator)
