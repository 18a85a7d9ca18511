"""Compressed sensing with a dense Gaussian matrix, the operator of ILO's Theorem 1 (Daras et al. 2021).

    y = A x,   A [M, n] with independent entries N(0, 1 / M),   so E ||A x||^2 = ||x||^2

It needs O(m n) memory and time; :class:`~rtil.inverse.operators.circulant.PartialCirculant` takes its place beyond
small sizes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import LinearOperator, check_img_size, check_rate
from rtil.inverse.operators.noise import GaussianNoise
from rtil.seeds import generator

BYTES_PER_ENTRY = 4
MOST_BYTES = 2**28
"""Largest matrix: 256 MiB, every rate at 32 px and 44 % at 64 px, in colour."""


class DenseGaussian(LinearOperator):
    """m = max(1, round(rate * n)) Gaussian measurements of all n = C H W values together; y is [N, M].

    Operators of one seed share the directions of the rows; those of a smaller rate are the first of a larger one's.

    Args:
        img_size: (C, H, W).
        rate: Measurements per unknown, 0 < rate <= 1.
        seed: Root seed of the matrix.
        noise_model: Measurement noise, in the units of y.

    Raises:
        UserError: rate is outside (0, 1], or the matrix would take more than 256 MiB.
    """

    matrix: Tensor

    def __init__(
        self, img_size: Sequence[int], rate: float, seed: int = 0, noise_model: GaussianNoise | None = None
    ) -> None:
        self.n = math.prod(check_img_size(img_size))
        m = max(1, round(check_rate(rate) * self.n))
        needed = m * self.n * BYTES_PER_ENTRY
        if needed > MOST_BYTES:
            raise UserError(
                f"gaussian {100 * rate:g} % of {self.n} values is a matrix of {needed / 2**20:.0f} MiB, more than "
                f"{MOST_BYTES // 2**20}: use a rate of at most {MOST_BYTES / BYTES_PER_ENTRY / self.n**2:.2g}, or the "
                "task cs, a circulant matrix that needs no memory to speak of"
            )
        super().__init__(img_size, (m,), f"gaussian {100 * rate:g} %", noise_model)
        matrix = torch.empty(m, self.n)
        for i, row in enumerate(matrix):
            row.normal_(generator=generator(seed, "gaussian/row", i))
        self.register_buffer("matrix", matrix.div_(math.sqrt(m)))

    @property
    def error_normaliser(self) -> float:
        """n, since E ||A x||^2 = ||x||^2 whatever the number of measurements."""
        return float(self.n)

    def measure(self, x: Tensor) -> Tensor:
        """Map pictures [N, C, H, W] to [N, M]."""
        return x.flatten(1) @ self.matrix.to(x.dtype).T

    def transpose(self, y: Tensor) -> Tensor:
        """Map measurements [N, M] to pictures."""
        return (y @ self.matrix.to(y.dtype)).unflatten(1, self.img_size)
