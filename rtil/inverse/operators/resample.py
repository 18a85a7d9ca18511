"""Super-resolution: antialiased bicubic downsampling, the one of Pillow and of ``interpolate(antialias=True)``.

The filter (Keys 1981, a = -0.5, stretched by the factor) is separable, so A is two small matrices, A x = V x H^T for
each channel, and its transpose is V^T y H. This is faster than interpolate and its backward at every size and factor
in use.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import LinearOperator, check_img_size
from rtil.inverse.operators.noise import GaussianNoise


class Downsampling(LinearOperator):
    """Shrink pictures by a whole factor; y is [N, C, H / factor, W / factor].

    Args:
        img_size: (C, H, W).
        factor: Whole number >= 2 that divides H and W.
        noise_model: Measurement noise.

    Raises:
        UserError: factor is below 2 or does not divide the size.
    """

    vertical: Tensor
    horizontal: Tensor

    def __init__(self, img_size: Sequence[int], factor: int, noise_model: GaussianNoise | None = None) -> None:
        C, H, W = check_img_size(img_size)
        valid = [f for f in range(2, min(H, W) + 1) if H % f == 0 and W % f == 0]
        if factor not in valid:
            raise UserError(
                f"sr factor is {factor}: valid for {H}x{W} pictures are {', '.join(map(str, valid)) or 'none'}"
            )
        super().__init__(img_size, (C, H // factor, W // factor), f"sr x{factor}", noise_model)
        self.register_buffer("vertical", _bicubic_matrix(H, factor), persistent=False)
        self.register_buffer("horizontal", _bicubic_matrix(W, factor), persistent=False)

    def measure(self, x: Tensor) -> Tensor:
        """Map pictures [N, C, H, W] to [N, C, H / factor, W / factor]."""
        return (self.vertical.to(x.dtype) @ x) @ self.horizontal.to(x.dtype).T

    def transpose(self, y: Tensor) -> Tensor:
        """Map [N, C, H / factor, W / factor] to [N, C, H, W] by the transposed matrices."""
        return self.vertical.to(y.dtype).T @ (y @ self.horizontal.to(y.dtype))


def _bicubic_matrix(size: int, factor: int) -> Tensor:
    """Return the matrix [size / factor, size] of one axis: interpolate applied to the identity."""
    identity = torch.eye(size, dtype=torch.float64)[None, None]
    return F.interpolate(identity, size=(size // factor, size), mode="bicubic", antialias=True)[0, 0].float()
