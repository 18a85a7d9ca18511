"""The operations of StyleGAN2 and PGGAN, each in tiers behind one function.

``ref`` is slow and obviously right; ``native`` is the best composition of torch operations and needs no compiler;
``ext`` is a library of fused operations, compiled at first use (:mod:`rtil.ops.tier` says which one runs).
Every operation can be differentiated twice, in float64, float32, float16 and bfloat16.
"""

from rtil.ops.bias_act import bias_act
from rtil.ops.conv2d import conv2d, conv_transpose2d
from rtil.ops.counter import Drawn, Noise, counter_normal, draw_later, materialise
from rtil.ops.modulated_conv2d import demodulation, energy, modulated_conv2d, weights_to_convolve
from rtil.ops.pixel_norm import pixel_norm
from rtil.ops.styled_tail import styled_tail
from rtil.ops.upfirdn2d import downsample2d, fir_filter, upfirdn2d, upsample2d
from rtil.ops.upsample_bilinear import upsample_bilinear2d
from rtil.ops.weight_gradients import no_weight_gradients

__all__ = [
    "Drawn",
    "Noise",
    "bias_act",
    "draw_later",
    "conv2d",
    "conv_transpose2d",
    "counter_normal",
    "demodulation",
    "downsample2d",
    "energy",
    "fir_filter",
    "materialise",
    "modulated_conv2d",
    "no_weight_gradients",
    "pixel_norm",
    "styled_tail",
    "upfirdn2d",
    "upsample2d",
    "upsample_bilinear2d",
    "weights_to_convolve",
]
