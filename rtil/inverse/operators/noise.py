"""Measurement noise that belongs to the image, not to the batch it happens to be in."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

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
        self.seed, self.clip = seed, clip
        self.update_parameters(sigma)

    @property
    def text(self) -> str:
        """For reports; empty where there is no noise."""
        return f"noise {self.sigma:g}" if self.sigma else ""

    def update_parameters(self, sigma: float | Tensor | None = None, **_: Any) -> None:
        """Change sigma, by its name in deepinv; other names belong to other models.

        Raises:
            UserError: sigma is not one number, is negative or not finite.
        """
        if sigma is None:
            return
        if isinstance(sigma, Tensor) and sigma.numel() != 1:
            raise UserError(f"noise sigma is {list(sigma.shape)} numbers: valid is one for all pictures")
        if not (math.isfinite(sigma) and sigma >= 0):
            raise UserError(f"noise sigma is {float(sigma):g}: valid is a finite number >= 0")
        self.sigma = float(sigma)

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
            draws = [self._draw(i, y.shape[1:]).to(y.dtype).to(y.device) for i in ids]
            y = y + self.sigma * torch.stack(draws) if draws else y
        return y.clamp(0, 1) if self.clip else y

    def extra_repr(self) -> str:
        """Settings, for print."""
        return f"sigma={self.sigma:g}, seed={self.seed}, clip={self.clip}"

    def _draw(self, image_id: str, shape: torch.Size) -> Tensor:
        """Draw in float64, so that measurements in any precision carry the same noise."""
        return torch.randn(shape, dtype=torch.float64, generator=generator(self.seed, "measurement-noise", image_id))


class OtherNoise(nn.Module):
    """Noise of another library, drawn as that one draws it: not by image id.

    Args:
        foreign: Called as ``foreign(y)``.
    """

    def __init__(self, foreign: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.foreign = foreign

    @property
    def text(self) -> str:
        """For reports."""
        return type(self.foreign).__name__

    @property
    def sigma(self) -> NoReturn:
        """Refuse: it has no single standard deviation.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.text} has no sigma: what asks for it needs a GaussianNoise")

    def update_parameters(self, **parameters: Any) -> None:
        """Hand parameters on to it, if it has any."""
        if hasattr(self.foreign, "update_parameters"):
            self.foreign.update_parameters(**parameters)

    def forward(self, y: Tensor, image_ids: Sequence[str] | None = None) -> Tensor:
        """Return noisy measurements [N, ...]."""
        return self.foreign(y)


def as_noise(noise: Any) -> GaussianNoise | OtherNoise:
    """Return a noise model of ours, or one of deepinv: its ``GaussianNoise`` of one sigma is ours, by image id."""
    if isinstance(noise, GaussianNoise | OtherNoise):
        return noise
    sigma = known_sigma(noise)
    return OtherNoise(noise) if sigma is None else GaussianNoise(sigma)


def known_sigma(noise: Any) -> float | None:
    """Return the standard deviation of deepinv's ``GaussianNoise``, 0 for its ``ZeroNoise``, None for any other."""
    kind, sigma = type(noise).__name__, getattr(noise, "sigma", None)
    if kind == "ZeroNoise" or noise is None:
        return 0.0
    if kind != "GaussianNoise" or (isinstance(sigma, Tensor) and sigma.numel() != 1):
        return None
    return float(sigma)  # type: ignore[arg-type]
