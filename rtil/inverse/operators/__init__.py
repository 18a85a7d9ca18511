"""Forward operators: compressed sensing, inpainting, super-resolution, denoising, colorization, inversion."""

from rtil.inverse.operators.base import LinearOperator
from rtil.inverse.operators.circulant import PartialCirculant
from rtil.inverse.operators.colorize import Colorization
from rtil.inverse.operators.masks import (
    Inpainting,
    box_inpainting,
    centre_box,
    explicit_box,
    file_inpainting,
    mask_from_file,
    random_inpainting,
    random_pixels,
)
from rtil.inverse.operators.noise import GaussianNoise
from rtil.inverse.operators.registry import OPERATORS, PARAMETERS, OperatorTask, make_operator
from rtil.inverse.operators.resample import Downsampling
from rtil.inverse.operators.simple import Denoising, Identity

__all__ = [
    "OPERATORS",
    "PARAMETERS",
    "Colorization",
    "Denoising",
    "Downsampling",
    "GaussianNoise",
    "Identity",
    "Inpainting",
    "LinearOperator",
    "OperatorTask",
    "PartialCirculant",
    "box_inpainting",
    "centre_box",
    "explicit_box",
    "file_inpainting",
    "make_operator",
    "mask_from_file",
    "random_inpainting",
    "random_pixels",
]
