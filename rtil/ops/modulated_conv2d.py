"""Modulated convolution in its scale form (Karras et al. 2020, section 2.2 and appendix B).

StyleGAN2 scales the weights per sample by the style s and normalises them again. Because a convolution is linear in
its input channels and its output channels, the same numbers come from scaling the *activations* on both sides of one
ordinary convolution, y = d * conv(s * x, w), with d[n, o] = rsqrt(sum_{i,k} (s[n, i] w[o, i, k])^2 + eps): one small
matrix product instead of N sets of weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.ops.conv2d import conv2d, conv_transpose2d
from rtil.ops.tier import tier_of

_EPS = 1e-8


def energy(w: Tensor) -> Tensor:
    """Return the sums of squares [O, I] of the kernels of weights w [O, I, k, k]."""
    return w.square().sum(dim=(2, 3))


def demodulation(w_energy: Tensor, s: Tensor) -> Tensor:
    """Return d [N, O] for weights of an :func:`energy` [O, I] and styles s [N, I]."""
    return (s.square() @ w_energy.t() + _EPS).rsqrt()


def weights_to_convolve(w: Tensor, x: Tensor) -> Tensor:
    """Return weights [O, I, k, k] as :func:`modulated_conv2d` takes them fastest for maps like x.

    In x's type, channels innermost; the reference tier multiplies them with the styles before it rounds anything, so it
    gets them as they are.
    """
    if tier_of("modulated_conv2d", x) == "ref":
        return w
    return w.to(x.dtype, memory_format=torch.channels_last)


def modulated_conv2d(x: Tensor, w: Tensor, s: Tensor, up: bool = False) -> Tensor:
    """Convolve with per-sample modulated weights; their demodulation is a factor on the result.

    Args:
        x: [N, I, H, W], in the type to compute in.
        w: [O, I, k, k] with k odd, parameters' own type or x's, equalised scale already applied.
        s: [N, I] styles, parameters' own type.
        up: Transposed convolution with stride 2 and no padding: output side 2H + k - 2, to be filtered by a FIR.

    Returns:
        [N, O, H', W'], to be multiplied by :func:`demodulation`.
    """
    if tier_of("modulated_conv2d", x) == "ref":
        return _ref(x, w, s, up)
    x = x * s.to(x.dtype)[:, :, None, None]
    w = weights_to_convolve(w, x)
    return conv_transpose2d(x, w.transpose(0, 1), stride=2) if up else conv2d(x, w, padding=w.shape[-1] // 2)


def _ref(x: Tensor, w: Tensor, s: Tensor, up: bool) -> Tensor:
    """One set of weights per sample, as the paper writes it (equation 1), by torch's own convolutions.

    Those weights depend on the styles: their gradient must not be left out with that of the parameters.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    maps = []
    for x_n, s_n in zip(x.to(exact), s.to(exact), strict=True):
        w_n = w.to(exact) * s_n[None, :, None, None]
        if up:
            maps.append(F.conv_transpose2d(x_n[None], w_n.transpose(0, 1), stride=2))
        else:
            maps.append(F.conv2d(x_n[None], w_n, padding=w.shape[-1] // 2))
    return torch.cat(maps).to(x.dtype)
