"""Phase retrieval: a detector sees no phases.

With coded diffraction masks (Candes, Li and Soltanolkotabi 2015),

    y[k, c] = | F (d_k . x_c) |,    k = 1 .. K exposures,    d_k = exp(i theta) with theta uniform at each pixel

with F the orthonormal 2-D transform; colour channels are measured each on its own through the same masks. x and -x look
alike: that pictures are not negative decides between them. Or, harder, from the picture alone, with a margin of zeros
that oversamples its transform (DPS, Chung et al. 2023): a picture turned by half a turn has the same amplitudes, and
nothing but the prior decides between the two.

The *amplitude* is measured, not the intensity |.|^2: it is in the units of the picture, so noise and loss mean what
they mean for the other tasks, where squared intensities would be ruled by the few brightest entries; and the square
root gives photon noise one variance for all entries (Anscombe 1948), so that Gaussian noise on it is the right model.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.budget import check_memory
from rtil.errors import UserError
from rtil.inverse.operators.base import check_img_size
from rtil.inverse.operators.noise import GaussianNoise
from rtil.inverse.operators.nonlinear import NonlinearOperator
from rtil.inverse.operators.transform import transform
from rtil.seeds import generator

BYTES_OF_ANGLE, BYTES_OF_DIFFRACTION = 8, 24
"""Of each pixel: an angle while their list is stacked; values in and out of the transform, and their absolute ones."""


class PhaseRetrieval(NonlinearOperator):
    """Amplitudes of coded diffraction patterns; y is [N, K, C, H, W], and below 0 only by its noise.

    Operators of one seed share masks: those of fewer exposures are the first of more.

    Args:
        img_size: (C, H, W).
        exposures: K, the number of masks; 1 is not enough to tell all pictures apart, 4 is usual.
        seed: Root seed of the masks.
        noise_model: Measurement noise of the amplitudes.

    Raises:
        UserError: exposures is no whole number of 1 or more, or the masks and what they make of one picture would not
            fit into memory.
    """

    angles: Tensor

    def __init__(
        self, img_size: Sequence[int], exposures: int, seed: int = 0, noise_model: GaussianNoise | None = None
    ) -> None:
        C, H, W = check_img_size(img_size)
        if not (isinstance(exposures, int) and exposures >= 1):
            raise UserError(f"phase exposures is {exposures}: valid is a whole number of 1 or more, the coded masks")
        name = f"phase {exposures} mask{'s' * (exposures > 1)}"
        bytes_each = H * W * (BYTES_OF_ANGLE + BYTES_OF_DIFFRACTION * C)
        check_memory(bytes_each * exposures, name, f"use fewer, each takes {bytes_each / 1e6:.2g} MB")
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


class FourierPhase(NonlinearOperator):
    """Amplitudes of the transform of a picture with a margin of zeros, a quarter of its side, all around.

    y is [N, 1, C, 3 H / 2, 3 W / 2], the mean in the centre: 2.25 times as many entries as the picture has ("oversample
    2.0" of DPS and DAPS).

    Args:
        img_size: (C, H, W).
        noise_model: Measurement noise of the amplitudes.
    """

    def __init__(self, img_size: Sequence[int], noise_model: GaussianNoise | None = None) -> None:
        C, H, W = check_img_size(img_size)
        self.margins = (W // 4, W // 4, H // 4, H // 4)
        shape = (1, C, H + 2 * (H // 4), W + 2 * (W // 4))
        super().__init__((C, H, W), shape, "fourier_phase", noise_model)

    @property
    def error_normaliser(self) -> float:
        """N / 2, n = C H W, as with one coded mask: the transform keeps the norm of the picture."""
        return math.prod(self.img_size) / 2

    def measure(self, x: Tensor) -> Tensor:
        """Map pictures [N, C, H, W] to amplitudes [N, 1, C, 3 H / 2, 3 W / 2]."""
        spectrum = transform(torch.fft.fft2, F.pad(x, self.margins), norm="ortho")
        return torch.fft.fftshift(spectrum.abs(), dim=(-2, -1))[:, None]
