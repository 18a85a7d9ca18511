"""Operators that observe every pixel: plain inversion and denoising."""

import math
from collections.abc import Sequence

from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import LinearOperator
from rtil.inverse.operators.noise import GaussianNoise


class Identity(LinearOperator):
    """y = x: how well can the generator show this picture at all.

    Args:
        img_size: (C, H, W).
        noise_model: Measurement noise.
        name: What is measured, for reports.
    """

    is_identity = True

    def __init__(
        self, img_size: Sequence[int], noise_model: GaussianNoise | None = None, name: str = "inversion"
    ) -> None:
        super().__init__(img_size, img_size, name, noise_model)

    def measure(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def transpose(self, y: Tensor) -> Tensor:
        """Return y."""
        return y


class Denoising(Identity):
    """y = clip(x + N(0, (sigma / 255)^2), 0, 1), the denoising task of ILO (Daras et al. 2021, section 5).

    Args:
        img_size: (C, H, W).
        sigma: Standard deviation of the noise on the 0-255 scale.
        seed: Root seed of the noise.

    Raises:
        UserError: sigma is negative or not finite.
    """

    def __init__(self, img_size: Sequence[int], sigma: float, seed: int = 0) -> None:
        if not (math.isfinite(sigma) and sigma >= 0):
            raise UserError(f"denoise sigma is {sigma:g}: valid is a finite number >= 0 on the 0-255 scale")
        super().__init__(img_size, GaussianNoise(sigma / 255, seed, clip=True), name=f"denoise {sigma:g}")

    @property
    def label(self) -> str:
        """The task's name, which tells its noise already."""
        return self.name
