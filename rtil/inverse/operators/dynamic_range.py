"""High dynamic range: contrast is doubled about mid-grey, and what leaves [0, 1] is clipped.

    y = clip(2 x - 1/2, 0, 1)

In generator units this is clip(2 x, -1, 1), the task of DAPS (Zhang et al. 2025). Half of a uniform scale of greys is
lost; of the lost part is known on which side of the range it was.
"""

from collections.abc import Sequence

from torch import Tensor

from rtil.inverse.operators.base import check_img_size
from rtil.inverse.operators.noise import GaussianNoise
from rtil.inverse.operators.nonlinear import NonlinearOperator

CONTRAST = 2.0


class HighDynamicRange(NonlinearOperator):
    """Clipped pictures; y is [N, C, H, W].

    Args:
        img_size: (C, H, W).
        noise_model: Measurement noise, which is not clipped.
    """

    def __init__(self, img_size: Sequence[int], noise_model: GaussianNoise | None = None) -> None:
        size = check_img_size(img_size)
        super().__init__(size, size, "hdr", noise_model)

    @property
    def error_normaliser(self) -> float:
        """2 n, n = C H W: of uniformly spread greys one half is clipped, of the other squares are 4 times as large."""
        return super().error_normaliser * CONTRAST

    def measure(self, x: Tensor) -> Tensor:
        """Map pictures [N, C, H, W] to pictures."""
        return (CONTRAST * (x - 0.5) + 0.5).clamp(0, 1)
