"""Fourier measurements: some frequencies of each colour channel, by the orthonormal 2-D transform; single-coil MRI.

Pictures are real, so frequency -k is the complex conjugate of k and tells nothing new. Only one of the two is
measured, on the half plane of ``numpy.fft.rfft2``, and it is scaled by sqrt(2), which stands for the other:

    y[:, c, k] = (Re, Im) of  s_k (F x_c)[k]   for observed k,    s_k = sqrt(2), or 1 where k is its own mirror image

These are coefficients in the orthonormal basis of cosines and sines: A A^T = I on the observed entries, so A_adjoint
is the zero-filled reconstruction. A rate is the fraction of a channel's H W coefficients that is observed. The colour
channels are measured each on its own with the same mask: their mean alone would lose the colours.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import LinearOperator, check_img_size, check_rate
from rtil.inverse.operators.noise import GaussianNoise
from rtil.inverse.operators.transform import transform
from rtil.seeds import generator

CENTRE_SHARE = 1 / 3
"""Share of the observed lines that is the fully sampled centre: fastMRI's 8 % of the lines where 25 % are observed."""


class FourierSampling(LinearOperator):
    """Observed frequencies of every channel; y is [N, 2, C, H, W // 2 + 1], real and imaginary part, 0 elsewhere.

    Args:
        img_size: (C, H, W).
        mask: bool [H, W // 2 + 1], frequencies in the order of ``rfft2``, True where observed. Those that mirror
            another one of the mask's columns 0 and W / 2 are not measured, whatever the mask says.
        name: What is measured, for reports.
        noise_model: Measurement noise of each real and imaginary part; only observed ones get it.

    Raises:
        UserError: The mask has another size or type, or observes nothing.
    """

    mask: Tensor
    multiplicity: Tensor

    def __init__(
        self, img_size: Sequence[int], mask: Tensor, name: str, noise_model: GaussianNoise | None = None
    ) -> None:
        C, H, W = check_img_size(img_size)
        shape = (H, W // 2 + 1)
        if mask.shape != shape or mask.dtype != torch.bool:
            raise UserError(f"Fourier mask is {mask.dtype} {list(mask.shape)} but must be torch.bool {list(shape)}")
        if not (mask & (multiplicity(H, W) > 0)).any():
            raise UserError("Fourier mask observes no frequency: at least one must be True")
        super().__init__(img_size, (2, C, *shape), name, noise_model)
        self.register_buffer("mask", mask.clone())
        self.register_buffer("multiplicity", multiplicity(H, W), persistent=False)

    @property
    def observed(self) -> Tensor:
        """Observed parts, bool [2, C, H, W // 2 + 1]; a frequency that is its own mirror image has no imaginary one."""
        parts = torch.stack([self.multiplicity > 0, self.multiplicity == 2]) & self.mask
        return parts[:, None].expand(self.measurement_shape)

    @property
    def error_normaliser(self) -> float:
        """Number of observed entries, channels counted: of that many orthonormal directions the error is known.

        So the measurement error is the picture's for a mask drawn uniformly, or for an error alike at all frequencies.
        MRI's mask always holds the centre, where pictures differ most: there it is rather above the picture's.
        """
        return float(self.observed.sum())

    def measure(self, x: Tensor) -> Tensor:
        """Map pictures [N, C, H, W] to [N, 2, C, H, W // 2 + 1]."""
        spectrum = transform(torch.fft.rfft2, x, norm="ortho")
        return self._scaled(torch.stack([spectrum.real, spectrum.imag], 1))

    def transpose(self, y: Tensor) -> Tensor:
        """Map [N, 2, C, H, W // 2 + 1] to pictures: what was not observed counts as 0."""
        real, imaginary = self._scaled(y).unbind(1)
        W = self.img_size[2]
        full = F.pad(torch.complex(real, imaginary), (0, W - real.shape[-1]))
        return transform(torch.fft.ifft2, full, norm="ortho").real

    def _scaled(self, parts: Tensor) -> Tensor:
        return torch.where(self.observed, parts * self.multiplicity.to(parts.dtype).sqrt(), 0)


def mri(
    img_size: Sequence[int], rate: float, seed: int = 0, noise_model: GaussianNoise | None = None
) -> FourierSampling:
    """Observe lines (columns) of the Fourier plane: about a third of them the lowest, the others at random."""
    _, H, W = check_img_size(img_size)
    mask = cartesian_lines(W, rate, seed).expand(H, -1)
    return FourierSampling(img_size, mask, f"mri {100 * rate:g} %", noise_model)


def random_fourier(
    img_size: Sequence[int], rate: float, seed: int = 0, noise_model: GaussianNoise | None = None
) -> FourierSampling:
    """Observe frequencies drawn uniformly; those of a smaller rate are among those of a larger."""
    _, H, W = check_img_size(img_size)
    return FourierSampling(img_size, random_frequencies(H, W, rate, seed), f"fourier {100 * rate:g} %", noise_model)


def multiplicity(height: int, width: int) -> Tensor:
    """Return how many of the H W frequencies each of the half plane stands for, uint8 [H, W // 2 + 1].

    2 with its mirror image, 1 where it is its own, 0 where it mirrors another one of the half plane.

    Example:
        >>> multiplicity(4, 4).tolist()
        [[1, 2, 1], [2, 2, 2], [1, 2, 1], [0, 2, 0]]
    """
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width // 2 + 1), indexing="ij")
    mirrored_within = 2 * column % width == 0
    own_mirror = mirrored_within & (2 * row % height == 0)
    repeated = mirrored_within & (2 * row > height)
    return torch.where(own_mirror, 1, torch.where(repeated, 0, 2)).to(torch.uint8)


def random_frequencies(height: int, width: int, rate: float, seed: int = 0) -> Tensor:
    """Draw a mask [H, W // 2 + 1] uniformly until round(rate * H * W) coefficients are observed, or one more.

    Example:
        >>> mask = random_frequencies(8, 8, rate=0.25)
        >>> int(multiplicity(8, 8)[mask].sum()) in (16, 17)
        True
    """
    weight = multiplicity(height, width)
    candidates = weight.flatten().nonzero().flatten()
    order = candidates[torch.randperm(len(candidates), generator=generator(seed, "fourier/frequencies"))]
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[_until(order, weight.flatten(), max(1, round(check_rate(rate) * height * width)))] = True
    return mask.view(weight.shape)


def cartesian_lines(width: int, rate: float, seed: int = 0) -> Tensor:
    """Draw a mask [W // 2 + 1] of lines until round(rate * W) lines, mirror images counted, are observed, or one more.

    The lowest ones are always observed, about a third of all that are; the others are drawn uniformly.

    Example:
        >>> int(cartesian_lines(32, rate=0.25)[:2].sum())
        2
    """
    lines = max(1, round(check_rate(rate) * width))
    weight = multiplicity(1, width)[0]
    centre = (max(1, round(CENTRE_SHARE * lines)) - 1) // 2 + 1
    others = centre + torch.randperm(len(weight) - centre, generator=generator(seed, "mri/lines"))
    mask = torch.zeros(len(weight), dtype=torch.bool)
    mask[_until(torch.cat([torch.arange(centre), others]), weight, lines)] = True
    return mask


def _until(order: Tensor, weight: Tensor, total: int) -> Tensor:
    """Return the first entries of an order whose weights reach the total."""
    before = weight[order].cumsum(0) - weight[order]
    return order[before < total]
