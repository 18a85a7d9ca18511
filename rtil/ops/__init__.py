"""The operations of StyleGAN2 and PGGAN, each in tiers behind one function.

``ref`` is slow and obviously right; ``native`` is the best composition of torch operations and needs no compiler.
Every operation can be differentiated twice, in float32, float64 and bfloat16.
"""

from rtil.ops.bias_act import bias_act
from rtil.ops.conv2d import conv2d, conv_transpose2d
from rtil.ops.modulated_conv2d import demodulation, modulated_conv2d
from rtil.ops.pixel_norm import pixel_norm
from rtil.ops.upfirdn2d import downsample2d, fir_filter, upfirdn2d, upsample2d
from rtil.ops.upsample_bilinear import upsample_bilinear2d

__all__ = [
    "bias_act",
    "conv2d",
    "conv_transpose2d",
    "demodulation",
    "downsample2d",
    "fir_filter",
    "modulated_conv2d",
    "pixel_norm",
    "upfirdn2d",
    "upsample2d",
    "upsample_bilinear2d",
]
