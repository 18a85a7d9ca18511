"""Measurement noise that belongs to the image, not to the batch it happens to be in."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rtil.errors import UserError
from rtil.seeds import generator


class GaussianNoise(nn.Module):
    """y + sigma * N(0, I), drawn per image id.

    Args:
        sigma: Standard deviation in the units of y (pictures: [0, 1]); 0 leaves y as it is.
        seed: Root seed of the draws.
        clip: Clamp the noisy measurement to [0, 1], as a camera does.

    Raises:
        UserError: sigma is negative or not finite.

    Example:
        >>> noise = GaussianNoise(0.1, seed=0)
        >>> pair = noise(torch.zeros(2, 1, 4, 4), ["a", "b"])
        >>> torch.equal(noise(torch.zeros(1, 1, 4, 4), ["b"]), pair[1:])
        True
    """

    def __init__(self, sigma: float, seed: int = 0, clip: bool = False) -> None:
        super().__init__()
        if not (math.isfinite(sigma) and sigma >= 0):
            raise UserError(f"noise sigma is {sigma:g}: valid is a finite number >= 0")
        self.sigma = float(sigma)
        self.seed = seed
        self.clip = clip

    def forward(self, y: Tensor, image_ids: Sequence[str] | None = None) -> Tensor:
        """Return noisy measurements.

        Args:
            y: Measurements [N, ...].
            image_ids: One name per image, by which its noise is drawn; by default its place in the batch.
        """
        if self.sigma > 0:
            ids = [str(i) for i in range(len(y))] if image_ids is None else list(image_ids)
            if len(ids) != len(y):
                raise UserError(f"got {len(ids)} image ids for {len(y)} images: give one per image")
            draws = [self._draw(i, y.shape[1:]).to(y) for i in ids]
            y = y + self.sigma * torch.stack(draws) if draws else y
        return y.clamp(0, 1) if self.clip else y

    def extra_repr(self) -> str:
        """Settings, for print."""
        return f"sigma={self.sigma:g}, seed={self.seed}, clip={self.clip}"

    def _draw(self, image_id: str, shape: torch.Size) -> Tensor:
        """Draw in float64, so that measurements in any precision carry the same noise."""
        return torch.randn(shape, dtype=torch.float64, generator=generator(self.seed, "measurement-noise", image_id))
