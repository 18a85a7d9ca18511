"""Blur: each colour channel is convolved with one kernel.

The boundary is circular (what leaves a picture on one side enters on the other), so A is diagonal in the Fourier
domain and its transpose, the correlation with the kernel, is exact. Kernels are not negative and sum to 1: flat
pictures stay as they are.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import LinearOperator, check_img_size, checked
from rtil.inverse.operators.noise import GaussianNoise
from rtil.inverse.operators.transform import transform
from rtil.seeds import generator

TRUNCATE = 4.0
"""A Gaussian kernel ends at this many standard deviations, as scipy's does."""
STEPS_PER_PIXEL = 64
"""Points along a motion's path."""


class CircularBlur(LinearOperator):
    """y = kernel * x for each channel, * being the circular convolution; y is [N, C, H, W].

    Args:
        img_size: (C, H, W).
        kernel: [H, W], its centre at [0, 0], so that offset (-1, 2) is at [H - 1, 2].
        name: What is measured, for reports.
        noise_model: Measurement noise.

    Raises:
        UserError: The kernel has another size than the pictures.
    """

    kernel: Tensor

    def __init__(
        self, img_size: Sequence[int], kernel: Tensor, name: str, noise_model: GaussianNoise | None = None
    ) -> None:
        _, H, W = check_img_size(img_size)
        if kernel.shape != (H, W):
            raise UserError(f"blur kernel has shape {list(kernel.shape)} but must be [{H}, {W}], as the pictures")
        super().__init__(img_size, img_size, name, noise_model)
        self.register_buffer("kernel", kernel.float())

    def measure(self, x: Tensor) -> Tensor:
        """Convolve pictures [N, C, H, W] with the kernel."""
        return self._inverse_fft(transform(torch.fft.rfft2, x) * self._transfer(x.dtype))

    def transpose(self, y: Tensor) -> Tensor:
        """Correlate [N, C, H, W] with the kernel."""
        return self._inverse_fft(transform(torch.fft.rfft2, y) * self._transfer(y.dtype).conj())

    def A_dagger(self, y: Tensor, *, tol: float = 1e-6, max_iter: int = 1000, **parameters: Any) -> Tensor:
        """Return the picture of least norm among those that minimise ||A x - y||^2: division in the Fourier domain.

        Args:
            y: Measurements [N, C, H, W].
            tol: Frequencies of which the blur leaves at most this fraction count as lost. Noise at the others is
                amplified up to 1 / tol times: noisy measurements want more.
            max_iter: Plays no part; here there is nothing to iterate.
            parameters: As for every operator.
        """
        self.update_parameters(**parameters)
        self.check_measurement(y)
        y = checked("measurements", y, self.measurement_shape)
        transfer = self._transfer(y.dtype)
        kept = transfer.abs() > tol * transfer.abs().max()
        return self._inverse_fft(torch.where(kept, transform(torch.fft.rfft2, y) / torch.where(kept, transfer, 1), 0))

    def _transfer(self, dtype: torch.dtype) -> Tensor:
        """Return the factor of each frequency, [H, W // 2 + 1]."""
        return torch.fft.rfft2(self.kernel.to(dtype))

    def _inverse_fft(self, spectrum: Tensor) -> Tensor:
        return transform(torch.fft.irfft2, spectrum, s=self.img_size[1:])


def gaussian_blur(img_size: Sequence[int], width: float, noise_model: GaussianNoise | None = None) -> CircularBlur:
    """Blur with a Gaussian of standard deviation ``width`` in pixels, cut off at 4 of them.

    Raises:
        UserError: width is not above 0, or exceeds the shorter side.
    """
    _, H, W = check_img_size(img_size)
    _check_pixels("blur width", width, H, W)
    return CircularBlur(img_size, gaussian_kernel(H, W, width), f"blur {width:g} px", noise_model)


def motion_blur(
    img_size: Sequence[int], length: float, seed: int = 0, noise_model: GaussianNoise | None = None
) -> CircularBlur:
    """Blur along a straight path of ``length`` pixels at constant speed; its angle is drawn from the seed.

    Operators of one seed share the angle.

    Raises:
        UserError: length is not above 0, or exceeds the shorter side.
    """
    _, H, W = check_img_size(img_size)
    _check_pixels("motion length", length, H, W)
    angle = math.pi * torch.rand((), dtype=torch.float64, generator=generator(seed, "motion/angle")).item()
    return CircularBlur(img_size, motion_kernel(H, W, length, angle), f"motion {length:g} px", noise_model)


def gaussian_kernel(height: int, width: int, sigma: float) -> Tensor:
    """Return the kernel [H, W] of a Gaussian, float64, its centre at [0, 0].

    Args:
        height: H.
        width: W.
        sigma: Standard deviation in pixels.

    Example:
        >>> round(gaussian_kernel(8, 8, 1.0).sum().item(), 12)
        1.0
    """
    offsets = torch.arange(-int(TRUNCATE * sigma + 0.5), int(TRUNCATE * sigma + 0.5) + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma).square())
    weights /= weights.sum()
    rows, columns = (
        torch.zeros(size, dtype=torch.float64).index_add(0, offsets % size, weights) for size in (height, width)
    )
    return torch.outer(rows, columns)


def motion_kernel(height: int, width: int, length: float, angle: float) -> Tensor:
    """Return the kernel [H, W] of a straight path through [0, 0], float64.

    Each point of the path is shared out bilinearly among the four pixels around it.

    Args:
        height: H.
        width: W.
        length: In pixels.
        angle: In radians; 0 is along a row, pi / 2 along a column.
    """
    steps = math.ceil(length * STEPS_PER_PIXEL)
    along = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps - 0.5) * length
    y, x = along * math.sin(angle), along * math.cos(angle)
    kernel = torch.zeros(height, width, dtype=torch.float64)
    for row, row_share in _neighbours(y):
        for column, column_share in _neighbours(x):
            kernel.index_put_((row % height, column % width), row_share * column_share / steps, accumulate=True)
    return kernel


def _check_pixels(what: str, size: float, height: int, width: int) -> None:
    """Raise UserError unless 0 < size <= the shorter side of the pictures."""
    most = min(height, width)
    if not 0 < size <= most:
        raise UserError(f"{what} is {size:g}: valid is above 0 and at most {most} pixels, the shorter side")


def _neighbours(position: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the whole numbers below and above positions, with the share of each."""
    below = position.floor()
    share = position - below
    return [(below.long(), 1 - share), (below.long() + 1, share)]
