"""What follows the convolution of a styled layer, in one call (Karras et al. 2020, section 2.2; RTIL, section 3.1).

    u = FIR(x)                                              after an up-convolution only
    y = gain lrelu(d u + strength noise + b) + z1           demodulation, noise, bias, activation, RTIL's z1

Apart, these are five passes over the largest maps of the network, and they take longer than its convolutions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.ops.bias_act import LRELU_GAIN, LRELU_SLOPE
from rtil.ops.counter import Drawn, Noise, int64_bits, materialise
from rtil.ops.plan import after_up_convolution
from rtil.ops.tier import tier_of
from rtil.ops.upfirdn2d import upfirdn2d


def styled_tail(
    x: Tensor,
    b: Tensor,
    *,
    fir: Tensor | None = None,
    d: Tensor | None = None,
    noise: Noise | None = None,
    strength: Tensor | None = None,
    z1: Noise | None = None,
    slope: float = LRELU_SLOPE,
    gain: float = LRELU_GAIN,
) -> Tensor:
    """Filter, demodulate, add noise and bias, activate, add z1.

    Args:
        x: [N, C, H, W] as the convolution leaves it; [N, C, 2H+1, 2W+1] after an up-convolution.
        b: [C] bias.
        fir: Taps [k] of the filter behind an up-convolution (it has gain 4); None is none.
        d: [N, C] demodulation; None is 1.
        noise: [N or 1, 1, H, W] N(0, 1) map, or how to draw one; goes with ``strength``.
        strength: Scalar factor on the noise; None is no noise.
        z1: [N, C, H, W] added to the result, or how to draw it; None is none.
        slope: Of the leaky ReLU.
        gain: On the activation's output, positive.

    Returns:
        [N, C, H, W] in the type and layout of x; differentiable any number of times in all tensors but ``fir``.
    """
    if noise is None or strength is None:
        noise = strength = None
    tier = tier_of("styled_tail", x)
    if tier == "ext":
        return _ext(x, b, fir, d, noise, strength, z1, slope, gain)
    kept = x.dtype
    if tier == "ref":
        x = x.to(_exact(x))
    if fir is not None:
        x = upfirdn2d(x, fir, padding=after_up_convolution(len(fir)).pad, gain=4)
    N, _, H, W = x.shape
    if isinstance(noise, Drawn):
        noise = materialise(noise, (N, 1, H, W), x)
    if z1 is not None:
        z1 = materialise(z1, x.shape, x)
    return (_ref if tier == "ref" else _native)(x, b, d, noise, strength, z1, slope, gain).to(kept)


def _exact(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _ref(
    u: Tensor,
    b: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    strength: Tensor | None,
    z1: Tensor | None,
    slope: float,
    gain: float,
) -> Tensor:
    if d is not None:
        u = u * d[:, :, None, None]
    if noise is not None and strength is not None:
        u = u + strength * noise
    y = gain * F.leaky_relu(u + b[None, :, None, None], slope)
    return y if z1 is None else y + z1


def _native(
    u: Tensor,
    b: Tensor,
    d: Tensor | None,
    noise: Tensor | None,
    strength: Tensor | None,
    z1: Tensor | None,
    slope: float,
    gain: float,
) -> Tensor:
    """The gain rides on the small factors, as the leaky ReLU is positively homogeneous: three passes, two in place."""
    bias = (b * gain).to(u.dtype)[None, :, None, None]
    if d is None:
        y = torch.add(bias, u, alpha=gain)
    else:
        y = torch.addcmul(bias, u, (d * gain).to(u.dtype)[:, :, None, None])
    if noise is not None and strength is not None:
        y = y.add_((noise * (strength * gain)).to(u.dtype))
    y = F.leaky_relu_(y, slope)
    return y if z1 is None else y + z1


def _ext(
    x: Tensor,
    b: Tensor,
    fir: Tensor | None,
    d: Tensor | None,
    noise: Noise | None,
    strength: Tensor | None,
    z1: Noise | None,
    slope: float,
    gain: float,
) -> Tensor:
    exact = _exact(x)
    N, _, H, W = x.shape
    if fir is not None:
        H, W = after_up_convolution(len(fir)).output_size(H, W, fir)
    noise_key = z1_key = 0
    sigma = None
    if isinstance(noise, Drawn):
        noise_key, noise = noise.key, None if noise.sigma is None else materialise(noise, (N, 1, H, W), x)
    if isinstance(z1, Drawn):
        z1_key, sigma, z1 = z1.key, x.new_ones(N, dtype=exact) if z1.sigma is None else z1.sigma.detach(), None

    def wide(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.to(x.device, exact)

    return torch.ops.rtil.styled_tail(
        x,
        wide(fir),
        wide(d),
        wide(noise),
        wide(strength),
        wide(b),
        None if z1 is None else z1.to(x),
        wide(sigma),
        int64_bits(noise_key),
        int64_bits(z1_key),
        slope,
        gain,
    )
