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
from rtil.ops.plan import after_up_convolution, exact_type
from rtil.ops.tier import tier_of
from rtil.ops.upfirdn2d import upfirdn2d


def styled_tail(
    x: Tensor,
    b: Tensor,
    *,
    d: Tensor,
    noise: Noise,
    strength: Tensor,
    fir: Tensor | None = None,
    z1: Noise | None = None,
) -> Tensor:
    """Filter, demodulate, add noise and bias, activate, add z1.

    Args:
        x: [N, C, H, W] as the convolution leaves it; [N, C, 2H+1, 2W+1] after an up-convolution.
        b: [C] bias.
        d: [N, C] demodulation.
        noise: [N or 1, 1, H, W] N(0, 1) map, or how to draw one.
        strength: Scalar factor on the noise.
        fir: Taps [k] of the filter behind an up-convolution (it has gain 4); None is none.
        z1: [N, C, H, W] added to the result, or how to draw it; None is none.

    Returns:
        [N, C, H, W] in the type and layout of x; differentiable any number of times in all tensors but ``fir``.
    """
    tier, kept = tier_of("styled_tail", x), x.dtype
    if tier == "ext":
        return _ext(x, b, d, noise, strength, fir, z1)
    if tier == "ref":
        x = x.to(exact_type(x))
    if fir is not None:
        x = upfirdn2d(x, fir, padding=after_up_convolution(len(fir)).pad, gain=4)
    if isinstance(noise, Drawn):
        noise = materialise(noise, (len(x), 1, *x.shape[2:]), x)
    if tier == "ref":
        u = x * d[:, :, None, None] + strength * noise + b[:, None, None]
        y = LRELU_GAIN * F.leaky_relu(u, LRELU_SLOPE)
    else:  # the gain rides on the small factors (leaky ReLU is positively homogeneous): three passes, two in place
        bias = (b * LRELU_GAIN).to(x.dtype)[None, :, None, None]
        y = torch.addcmul(bias, x, (d * LRELU_GAIN).to(x.dtype)[:, :, None, None])
        y = F.leaky_relu_(y.add_((noise * (strength * LRELU_GAIN)).to(x.dtype)), LRELU_SLOPE)
    return (y if z1 is None else y + materialise(z1, x.shape, x)).to(kept)


def _ext(
    x: Tensor,
    b: Tensor,
    d: Tensor,
    noise: Noise,
    strength: Tensor,
    fir: Tensor | None,
    z1: Noise | None,
) -> Tensor:
    exact = exact_type(x)
    N, _, H, W = x.shape
    if fir is not None:
        H, W = after_up_convolution(len(fir)).output_size(H, W, fir)
    noise_key = z1_key = 0
    sigma = given_noise = given_z1 = None
    if isinstance(noise, Tensor):
        given_noise = noise
    elif noise.sigma is None and noise.rows is None:
        noise_key = noise.key
    else:
        given_noise = materialise(noise, (N, 1, H, W), x.new_empty((1, 1, 1, 1), dtype=exact))
    if isinstance(z1, Drawn) and z1.rows is not None:  # the operation itself draws the first rows only
        given_z1 = materialise(z1, (N, x.shape[1], H, W), x)
    elif isinstance(z1, Drawn):
        z1_key, sigma = z1.key, x.new_ones(N, dtype=exact) if z1.sigma is None else z1.sigma.detach()
    elif z1 is not None:
        given_z1 = z1.to(x)

    def wide(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.to(x.device, exact)

    return torch.ops.rtil.styled_tail(
        x,
        wide(fir),
        wide(d),
        wide(given_noise),
        wide(strength),
        wide(b),
        given_z1,
        wide(sigma),
        int64_bits(noise_key),
        int64_bits(z1_key),
        LRELU_SLOPE,
        LRELU_GAIN,
    )
