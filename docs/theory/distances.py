"""How well sensing operators keep distances: the distribution of the distortion ||A v||^2 / ||v||^2 of v = x - x'.

ILO's Lemma 1 (Daras et al., ICML 2021) lets a partial circulant matrix with random signs take the place of a dense
Gaussian one, because it too keeps the distances within a suitable net. Three families are measured at the same m:
``dense`` (entries N(0, 1/m): the distortion of one v is chi^2_m / m), ``circulant``
(:class:`~rtil.inverse.operators.PartialCirculant`), and ``no signs``, the same without its random signs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators import PartialCirculant
from rtil.seeds import generator

FAMILIES = ("dense", "circulant", "no signs")


@dataclass(frozen=True)
class Distortions:
    """Distortions ||A v||^2 / ||v||^2 of several vectors under several drawn operators.

    Attributes:
        values: [D operators, N vectors].
    """

    values: Tensor

    @property
    def mean(self) -> float:
        """Mean over operators and vectors; 1 when distances are kept on average."""
        return float(self.values.mean())

    @property
    def deviation(self) -> float:
        """Root mean squared distance to 1."""
        return float((self.values - 1).square().mean().sqrt())

    def quantile(self, q: float) -> float:
        """Return a quantile over operators and vectors."""
        return float(torch.quantile(self.values.flatten(), q))

    @property
    def worst(self) -> float:
        """The largest |distortion - 1| among the vectors, in the median over operators."""
        return float((self.values - 1).abs().amax(1).median())


def measure_distortions(
    vectors: Tensor, rates: Sequence[float], operators: int, seed: int = 0
) -> dict[str, dict[int, Distortions]]:
    """Measure the distortions of given vectors under freshly drawn operators of all three families.

    Within one draw the rows of a smaller rate are among those of a larger, in every family.

    Args:
        vectors: Differences x - x' [N, C, H, W], none of them 0.
        rates: Measurements per unknown, in (0, 1].
        operators: How many operators are drawn.
        seed: Root seed of the operators.

    Returns:
        {family: {m: Distortions}}.

    Raises:
        UserError: A vector is 0, or a rate is outside (0, 1].
    """
    energy = vectors.flatten(1).square().sum(1)  # [N]
    if not energy.all():
        raise UserError("a difference x - x' is 0 and has no distortion: give pairs of different pictures")
    results: dict[str, dict[int, list[Tensor]]] = {family: {} for family in FAMILIES}
    for draw in range(operators):
        for rate in rates:
            operator = PartialCirculant(vectors.shape[1:], rate, seed=seed + draw)
            signs = operator.signs.view(vectors.shape[1:])
            # The operator multiplies by its signs once more, and signs * signs = 1.
            for family, pictures in (("circulant", vectors), ("no signs", vectors * signs)):
                energies = operator.A(pictures).square().sum(1)
                results[family].setdefault(len(operator.rows), []).append(energies / energy)
        counts = list(results["circulant"])
        rng = generator(seed, "theory/dense", draw)
        matrix = torch.randn(max(counts), operator.n, generator=rng, dtype=vectors.dtype)
        measured = (vectors.flatten(1) @ matrix.T).square().cumsum(1)  # [N, largest m]
        for m in counts:
            results["dense"].setdefault(m, []).append(measured[:, m - 1] / (m * energy))
    return {
        family: {m: Distortions(torch.stack(values)) for m, values in by_m.items()} for family, by_m in results.items()
    }


def circulant_variance(vector: Tensor, m: int) -> float:
    """Return the exact variance of one vector's distortion under :class:`PartialCirculant`, over all its draws.

        (2 / m) (1 + (m - 1) / (n - 1) c),   c = 1 - sum_j p_j^2 + sum_j p_j p_(j + n/2),   p_j = v_j^2 / ||v||^2

    (the last sum for even n only). Given signs s and rows, A v / ||v|| is Gaussian with covariance r(i - i') / m, r the
    circular autocorrelation of s v / ||v||, so the variance is 2 / m^2 times the sum of r^2 over pairs of rows. Over
    the signs E r(k)^2 = sum_j p_j p_(j + k), and twice that at k = n/2. By Cauchy-Schwarz c <= 1: no vector has more
    than twice the variance 2 / m that a dense Gaussian matrix gives it.

    Args:
        vector: One difference, any shape; n entries.
        m: Number of measurements.
    """
    p = vector.flatten().double().square()
    p = p / p.sum()
    n = len(p)
    if n == 1:
        return 2 / m
    c = 1 - float(p @ p)
    if n % 2 == 0:
        c += float(p @ p.roll(n // 2))
    return 2 / m * (1 + (m - 1) / (n - 1) * c)


def dense_deviation(m: int) -> float:
    """Return the standard deviation of chi^2_m / m, a dense Gaussian matrix's distortion of any one vector."""
    return math.sqrt(2 / m)
