"""Colorization: only the luma of a picture is observed (mGANprior, section 4.2; weights of ITU-R BT.601).

What is reported is the picture nearest to the generator's among those in [0, 1] whose luma is the observed one. That
set is convex and holds the truth, so the step never moves away from it. Pixel by pixel it is

    clip(x + lambda w, 0, 1)        with lambda such that the luma w . clip(x + lambda w, 0, 1) equals y.

The luma rises with lambda in straight pieces between the values at which a channel leaves or enters [0, 1]; these are
six a pixel, so lambda is found exactly.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rtil.devices import where_float64_is
from rtil.errors import UserError
from rtil.inverse.operators.base import LinearOperator, check_img_size
from rtil.inverse.operators.noise import GaussianNoise

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B; their sum is 1."""


class Colorization(LinearOperator):
    """y = 0.299 R + 0.587 G + 0.114 B, [N, 1, H, W].

    Args:
        img_size: (3, H, W).
        noise_model: Measurement noise.

    Raises:
        UserError: The pictures do not have three channels.
    """

    def __init__(self, img_size: Sequence[int], noise_model: GaussianNoise | None = None) -> None:
        C, H, W = check_img_size(img_size)
        if C != 3:
            raise UserError(f"colorize takes pictures of 3 channels (R, G, B): got img_size {tuple(img_size)}")
        super().__init__(img_size, (1, H, W), "colorize", noise_model)

    def measure(self, x: Tensor) -> Tensor:
        """Map pictures [N, 3, H, W] to their luma [N, 1, H, W]."""
        R, G, B = (weight * channel for weight, channel in zip(LUMA, x.split(1, 1), strict=True))
        return R + G + B

    def transpose(self, y: Tensor) -> Tensor:
        """Map [N, 1, H, W] to [N, 3, H, W]: each channel is its weight times y."""
        return torch.cat([weight * y for weight in LUMA], 1)

    @torch.no_grad()
    def consistent(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the pictures in [0, 1] nearest to x whose luma is y; x itself where the measurement is noisy.

        Args:
            x: Pictures [N, 3, H, W].
            y: Their measurements [N, 1, H, W]; values outside [0, 1], which no picture has, count as 0 or 1.

        Returns:
            [N, 3, H, W] of x's type, in [0, 1].
        """
        if self.noise_model.text:
            return x
        p, wanted = where_float64_is(x).double(), where_float64_is(y).double().clamp(0, 1)
        w = torch.stack([p.new_full((1, 1), weight) for weight in LUMA])  # [3 1 1]; no copy, which would wait for a GPU
        knots = torch.cat([-p / w, (1 - p) / w], dim=1).sort(dim=1).values  # [N 6 H W]
        lumas = torch.cat([((p + knot * w).clamp(0, 1) * w).sum(1, keepdim=True) for knot in knots.split(1, 1)], 1)
        below = (lumas <= wanted).sum(1, keepdim=True).clamp(1, 5) - 1  # the piece that reaches y starts here
        (knot, luma), (next_knot, next_luma) = (
            (knots.gather(1, below + i), lumas.gather(1, below + i)) for i in range(2)
        )
        rise = (next_luma - luma).clamp(min=torch.finfo(torch.float64).tiny)
        share = ((wanted - luma) / rise).clamp(0, 1)
        return (p + torch.lerp(knot, next_knot, share) * w).clamp(0, 1).to(x.dtype).to(x.device)
