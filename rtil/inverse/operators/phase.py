"""Phase retrieval with coded diffraction masks (Candes, Li and Soltanolkotabi 2015): a detector sees no phases.

    y[k, c] = | F (d_k . x_c) |,    k = 1 .. K exposures,    d_k = exp(i theta) with theta uniform at each pixel

with F the orthonormal 2-D transform; colour channels are measured each on its own through the same masks. x and -x look
alike: that pictures are not negative decides between them.

The *amplitude* is measured, not the intensity |.|^2: it is in the units of the picture, so noise and loss mean what
they mean for the other tasks, where squared intensities would be ruled by the few brightest entries; and the square
root gives photon noise one variance for all entries (Anscombe 1948), so that Gaussian noise on it is the right model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import check_img_size
from rtil.inverse.operators.noise import GaussianNoise
from rtil.inverse.operators.nonlinear import NonlinearOperator
from rtil.inverse.operators.transform import transform
from rtil.seeds import generator


class PhaseRetrieval(NonlinearOperator):
    """Amplitudes of coded diffraction patterns; y is [N, K, C, H, W], and below 0 only by its noise.

    Operators of one seed share masks: those of fewer exposures are the first of more.

    Args:
        img_size: (C, H, W).
        exposures: K, the number of masks; 1 is not enough to tell all pictures apart, 4 is usual.
        seed: Root seed of the masks.
        noise_model: Measurement noise of the amplitudes.

    Raises:
        UserError: exposures is no whole number of 1 or more.
    """

    angles: Tensor

    def __init__(
        self, img_size: Sequence[int], exposures: int, seed: int = 0, noise_model: GaussianNoise | None = None
    ) -> None:
        C, H, W = check_img_size(img_size)
        if not (isinstance(exposures, int) and exposures >= 1):
            raise UserError(f"phase exposures is {exposures}: valid is a whole number of 1 or more, the coded masks")
        name = f"phase {exposures} mask{'s' * (exposures > 1)}"
        super().__init__(img_size, (exposures, C, H, W), name, noise_model)
        turns = [torch.rand(H, W, generator=generator(seed, "phase/mask", k)) for k in range(exposures)]
        # Angles instead of complex numbers: Module.to(dtype) would drop a complex buffer's imaginary part.
        self.register_buffer("angles", 2 * torch.pi * torch.stack(turns))

    @property
    def error_normaliser(self) -> float:
        """K n / 2, n = C H W.

        Each mask keeps the norm of a change e of the picture, and to first order half of it changes amplitudes, the
        other half phases. So the measurement error is the mean squared error of a picture near the truth, if e is
        orthogonal to it; the part of e along the picture (its brightness) changes amplitudes only and counts twice.
        Far from the truth it is a lower estimate, since amplitudes cannot differ by more than the picture does.
        """
        K, C, H, W = self.measurement_shape
        return K * C * H * W / 2

    def measure(self, x: Tensor) -> Tensor:
        """Map pictures [N, C, H, W] to amplitudes [N, K, C, H, W]."""
        return self._diffracted(x).abs()

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Re sum_k conj(d_k) F^-1(v_k u_k / |u_k|), u_k = F(d_k . x); where u is 0, its phase counts as 0."""
        back = transform(torch.fft.ifft2, v * self._diffracted(x).sgn(), norm="ortho")
        return (back * self._masks(v.dtype).conj()).real.sum(1)

    def _diffracted(self, x: Tensor) -> Tensor:
        return transform(torch.fft.fft2, x[:, None] * self._masks(x.dtype), norm="ortho")

    def _masks(self, dtype: torch.dtype) -> Tensor:
        """Return d, complex [K, 1, H, W]."""
        angles = self.angles.to(dtype)[:, None]
        return torch.polar(torch.ones_like(angles), angles)
