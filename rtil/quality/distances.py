"""Comparing two sets of feature vectors, [N, C] each.

* Frechet distance between Gaussians fitted to both (Heusel et al. 2017): |m - m'|^2 + tr(S + S' - 2 (S S')^1/2). Biased
  upwards for few samples: compare equal numbers only, and with the floor. It is FID only on Inception's features.
* Kernel distance (KID, Binkowski et al. 2018): unbiased squared MMD with the kernel (x.y / C + 1)^3, mean of subsets.
* Precision and recall (Kynkaanniemi et al. 2019): the share of one set inside the other's k-nearest-neighbour balls,
  k = 3. Samples that are faces, but few different ones, have precision without recall.
* Spread: trace of the samples' covariance by that of the reals. Near 0 the samples are all the same.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

NEIGHBOURS = 3
KERNEL_SUBSET = 1000


class Distances(NamedTuple):
    """How far samples are from reals; see the module."""

    frechet: float
    kernel: float
    precision: float
    recall: float
    spread: float


def distances(fakes: Tensor, reals: Tensor) -> Distances:
    """Compare features of samples [N, C] with features of real pictures [M, C], both at least 8."""
    precision, recall = precision_recall(fakes, reals)
    spread = fakes.double().var(dim=0).sum() / reals.double().var(dim=0).sum()
    return Distances(frechet(fakes, reals), kernel(fakes, reals), precision, recall, float(spread))


def frechet(fakes: Tensor, reals: Tensor) -> float:
    """Return the Frechet distance, computed in float64."""
    metric = FrechetInceptionDistance(feature=_Given(reals.shape[1]))
    metric.update(reals, real=True)
    metric.update(fakes, real=False)
    return float(metric.compute())


def kernel(fakes: Tensor, reals: Tensor) -> float:
    """Return the kernel distance; the subsets are drawn with a fixed seed."""
    size = min(KERNEL_SUBSET, len(fakes), len(reals))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*will save all extracted features")  # small ones, here
        metric = KernelInceptionDistance(feature=_Given(reals.shape[1]), subset_size=size)
    metric.update(reals, real=True)
    metric.update(fakes, real=False)
    with torch.random.fork_rng(devices=[]):  # torchmetrics draws subsets from the global generator
        torch.manual_seed(0)
        return float(metric.compute()[0])


def precision_recall(fakes: Tensor, reals: Tensor) -> tuple[float, float]:
    """Return precision and recall of equally many of both, the first ones."""
    n = min(len(fakes), len(reals))
    fakes, reals = fakes[:n], reals[:n]
    between = torch.cdist(fakes, reals)  # [fakes, reals]
    precision = (between <= _radii(reals)[None, :]).any(dim=1).double().mean()
    recall = (between <= _radii(fakes)[:, None]).any(dim=0).double().mean()
    return float(precision), float(recall)


def _radii(points: Tensor) -> Tensor:
    """Return the distance [N] of each point to its k-th nearest other one."""
    return torch.cdist(points, points).kthvalue(NEIGHBOURS + 1, dim=1).values  # the first is the point itself


class _Given(nn.Identity):
    """Takes features for pictures, so that torchmetrics' distances run on features that were computed once."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
