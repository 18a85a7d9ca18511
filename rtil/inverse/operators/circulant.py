"""Compressed sensing with a partial circulant matrix, which needs O(n) memory where a Gaussian one needs O(m n).

    y = (h * (s . x))[rows],   h ~ N(0, I / m),   s random signs,   rows m of n without replacement

with * the circular convolution over the flattened picture, computed by FFT. Random signs and filter variance 1/m are
those of the theory (ILO: Daras et al. 2021, section 3.4; Rauhut, Romberg and Tropp 2012), so E ||A x||^2 = ||x||^2.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rtil.inverse.operators.base import LinearOperator, check_img_size, check_rate
from rtil.inverse.operators.noise import GaussianNoise
from rtil.inverse.operators.transform import transform
from rtil.seeds import generator


class PartialCirculant(LinearOperator):
    """m = max(1, round(rate * n)) random rows of a random circulant matrix, n = C H W; y is [N, M].

    Operators of one seed share filter direction and signs, and the rows of a smaller rate are among those of a larger.

    Args:
        img_size: (C, H, W).
        rate: Measurements per unknown, 0 < rate <= 1.
        seed: Root seed of filter, signs and rows.
        noise_model: Measurement noise, in the units of y.

    Raises:
        UserError: rate is outside (0, 1].
    """

    spectrum: Tensor
    signs: Tensor
    rows: Tensor

    def __init__(
        self, img_size: Sequence[int], rate: float, seed: int = 0, noise_model: GaussianNoise | None = None
    ) -> None:
        self.n = math.prod(check_img_size(img_size))
        m = max(1, round(check_rate(rate) * self.n))
        super().__init__(img_size, (m,), f"cs {100 * rate:g} %", noise_model)
        h = torch.randn(self.n, dtype=torch.float64, generator=generator(seed, "circulant/filter")) / math.sqrt(m)
        signs = torch.randint(0, 2, (self.n,), generator=generator(seed, "circulant/signs"))
        rows = torch.randperm(self.n, generator=generator(seed, "circulant/rows"))[:m].sort().values
        # Real pairs instead of complex numbers: Module.to(dtype) would drop a complex buffer's imaginary part.
        self.register_buffer("spectrum", torch.view_as_real(torch.fft.rfft(h)).float())
        self.register_buffer("signs", (2 * signs - 1).to(torch.int8))
        self.register_buffer("rows", rows)

    @property
    def error_normaliser(self) -> float:
        """n, since E ||A x||^2 = ||x||^2 whatever the number of measurements."""
        return float(self.n)

    def measure(self, x: Tensor) -> Tensor:
        """Map pictures [N, C, H, W] to [N, M]."""
        spectrum = transform(torch.fft.rfft, x.flatten(1) * self.signs) * self._complex_spectrum(x.dtype)
        return transform(torch.fft.irfft, spectrum, n=self.n).index_select(1, self.rows)

    def transpose(self, y: Tensor) -> Tensor:
        """Map measurements [N, M] to pictures: correlation with h instead of convolution."""
        rows = y.new_zeros(len(y), self.n).index_copy(1, self.rows, y)
        spectrum = transform(torch.fft.rfft, rows) * self._complex_spectrum(y.dtype).conj()
        return (transform(torch.fft.irfft, spectrum, n=self.n) * self.signs).unflatten(1, self.img_size)

    def _complex_spectrum(self, dtype: torch.dtype) -> Tensor:
        return torch.view_as_complex(self.spectrum.to(dtype))
