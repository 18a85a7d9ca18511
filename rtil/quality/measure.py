"""The quality of a prior: distances of every branch's samples to training pictures, with a floor and a line for scale.

The reference is up to 5000 training pictures. As many other real pictures as there are samples are compared with it,
too: no sampler is expected below that floor. So are samples of the linear prior (:mod:`rtil.evaluation.linear_prior`),
which has the right mean and covariance and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rtil.branches import Branches
from rtil.data import preload
from rtil.data.base import ImageDataset
from rtil.data.compared import REFERENCE_PICTURES, pictures_to_compare
from rtil.errors import UserError
from rtil.evaluation.linear_prior import LinearPrior
from rtil.generators.base import LayeredGenerator
from rtil.quality.distances import Distances, distances
from rtil.quality.features import features_of
from rtil.ranges import to_uint8
from rtil.sampling import samples
from rtil.seeds import generator as seeded

LEAST_SAMPLES = 8
COLLAPSED_SPREAD = 0.3


@dataclass(frozen=True)
class QualityLine:
    """One line of a measurement.

    Attributes:
        of: ``branch 0`` (the plain generator), ``branch 1``, ..., ``reals`` or ``linear``.
        distances: From the reference.
    """

    of: str
    distances: Distances

    @property
    def is_collapsed(self) -> bool:
        """Whether the samples hardly differ from each other, measured by how much real pictures do."""
        return self.distances.spread < COLLAPSED_SPREAD


def check_count(count: int, ds: ImageDataset) -> None:
    """Check that a set is large enough for so many samples.

    Raises:
        UserError: Fewer than 8 samples, or more than half of the pictures.
    """
    if not LEAST_SAMPLES <= count <= len(ds) // 2:
        raise UserError(
            f"{count} samples are not valid: use {LEAST_SAMPLES} to {len(ds) // 2}, half of the training pictures"
        )


class Comparison:
    """Compares samples with real pictures.

    Args:
        others: Real pictures uint8 [N, 3, R, R] whose distance is the floor; samples are as many.
        reference: Those that all are compared with, [M, 3, R, R].
        network: Makes features; see :mod:`rtil.quality.features`.
        seed: Root seed of samples.
        device: Where features are computed.

    Raises:
        UserError: Fewer than 8 pictures of either.
    """

    def __init__(
        self, others: Tensor, reference: Tensor, network: nn.Module, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        if min(len(others), len(reference)) < LEAST_SAMPLES:
            raise UserError(f"{len(others) + len(reference)} pictures are too few: use at least {2 * LEAST_SAMPLES}")
        self.others, self.count, self.seed, self.device = others, len(others), seed, device
        self.network = network.to(device)
        self.reference = features_of(self.network, reference, device)

    def compare(self, of: str, images: Tensor) -> QualityLine:
        """Compare pictures uint8 [N, 3, R, R] with the reference."""
        return QualityLine(of, distances(features_of(self.network, images, self.device), self.reference))

    def of_generator(self, G: LayeredGenerator, branches: Branches | None) -> list[QualityLine]:
        """Measure the plain generator, and with branches every other one, as trained (without truncation)."""
        x = to_uint8(samples(G, self.count, 1.0, self.seed, branches))
        return [self.compare(f"branch {j}", part) for j, part in enumerate(x.split(self.count))]

    def of_reals(self) -> QualityLine:
        """Measure real pictures that the reference does not hold."""
        return self.compare("reals", self.others)


class Quality(Comparison):
    """Measures samples against the pictures of a training set.

    Args:
        ds: The training set.
        network: Makes features; see :mod:`rtil.quality.features`.
        count: Samples of every line.
        seed: Root seed of samples and of the choice of pictures.
        device: Where features are computed.

    Raises:
        UserError: Fewer than 8 samples, or fewer pictures than twice the samples.
    """

    def __init__(
        self, ds: ImageDataset, network: nn.Module, count: int = 2000, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        check_count(count, ds)
        self.images = preload(ds)
        chosen = pictures_to_compare(len(ds), seed)
        others, reference = chosen[:count], chosen[count : count + REFERENCE_PICTURES]
        super().__init__(self.images[others], self.images[reference], network, seed, device)

    def of_linear_prior(self) -> QualityLine:
        """Measure samples of the Gaussian with the mean and covariance of the training pictures."""
        x = LinearPrior.fit(self.images).sample(self.count, seeded(self.seed, "quality/linear"))
        return self.compare("linear", to_uint8(x))


def values(lines: Sequence[QualityLine]) -> dict[str, float]:
    """Return a measurement as ``quality/DISTANCE/OF`` and numbers."""
    return {
        f"quality/{name}/{line.of}": value
        for line in lines
        for name, value in zip(Distances._fields, line.distances, strict=True)
    }


def table(lines: Sequence[QualityLine]) -> list[str]:
    """Return a measurement as lines of text."""
    head = f"{'':10s}{'frechet':>10s}{'kernel':>10s}{'precision':>11s}{'recall':>8s}{'spread':>8s}"
    rows = [
        f"{line.of:10s}{d.frechet:10.2f}{d.kernel:10.4f}{d.precision:11.3f}{d.recall:8.3f}{d.spread:8.3f}"
        for line in lines
        for d in [line.distances]
    ]
    return [head, *rows]
