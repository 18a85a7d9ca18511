"""A convolution that doubles or halves the map, with the filter and the convolution in the cheaper order."""

from torch import Tensor

from rtil.errors import UserError
from rtil.ops.conv2d import conv2d, conv_transpose2d
from rtil.ops.upfirdn2d import downsample2d, upfirdn2d, upsample2d


def conv2d_resample(x: Tensor, w: Tensor, fir: Tensor, up: int = 1, down: int = 1) -> Tensor:
    """Convolve x with w and resample it by 2 (Karras et al. 2020, appendix B).

    A 1x1 convolution runs on the small map: before the filter when doubling, behind it when halving. Others double by
    a transposed convolution with the filter behind it, and halve by the filter and a strided convolution behind it.

    Args:
        x: [N, I, H, W].
        w: [O, I, k, k] with k odd.
        fir: Taps [t] of the low-pass filter, t even.
        up: 1 or 2.
        down: 1 or 2; only one of the two can be 2.

    Returns:
        [N, O, H up / down, W up / down]; twice differentiable in x and w.

    Raises:
        UserError: If up and down are another pair.
    """
    kernel, taps = w.shape[-1], fir.shape[0]
    match up, down:
        case 1, 1:
            return conv2d(x, w, padding=kernel // 2)
        case 2, 1 if kernel == 1:
            return upsample2d(conv2d(x, w), fir)
        case 2, 1:
            pad = taps + 1 - kernel
            y = conv_transpose2d(x, w.transpose(0, 1), stride=2)
            return upfirdn2d(y, fir, padding=(pad // 2, pad - pad // 2) * 2, gain=4)
        case 1, 2 if kernel == 1:
            return conv2d(downsample2d(x, fir), w)
        case 1, 2:
            return conv2d(upfirdn2d(x, fir, padding=(taps - 2 + kernel - 1) // 2), w, stride=2)
    raise UserError(f"conv2d_resample: up {up}, down {down} is not valid: use 1 and 1, 2 and 1, or 1 and 2")
