"""Forward operators: what is measured of a picture, for every task of :data:`OPERATORS`."""

from rtil.inverse.operators.adapted import Adapted
from rtil.inverse.operators.base import LinearOperator, Operator
from rtil.inverse.operators.blur import CircularBlur, gaussian_blur, motion_blur
from rtil.inverse.operators.circulant import PartialCirculant
from rtil.inverse.operators.colorize import Colorization
from rtil.inverse.operators.dense import DenseGaussian
from rtil.inverse.operators.dynamic_range import HighDynamicRange
from rtil.inverse.operators.fourier import FourierSampling, mri, random_fourier
from rtil.inverse.operators.masks import (
    Inpainting,
    box_inpainting,
    centre_box,
    drawn_box,
    explicit_box,
    file_inpainting,
    hole_inpainting,
    mask_from_file,
    random_inpainting,
    random_pixels,
)
from rtil.inverse.operators.noise import GaussianNoise
from rtil.inverse.operators.nonlinear import NonlinearOperator
from rtil.inverse.operators.phase import FourierPhase, PhaseRetrieval
from rtil.inverse.operators.registry import OPERATORS, PARAMETERS, OperatorTask, make_operator
from rtil.inverse.operators.resample import Downsampling
from rtil.inverse.operators.simple import Denoising, Identity

__all__ = [
    "OPERATORS",
    "PARAMETERS",
    "Adapted",
    "CircularBlur",
    "Colorization",
    "Denoising",
    "DenseGaussian",
    "Downsampling",
    "FourierPhase",
    "FourierSampling",
    "GaussianNoise",
    "HighDynamicRange",
    "Identity",
    "Inpainting",
    "LinearOperator",
    "NonlinearOperator",
    "Operator",
    "OperatorTask",
    "PartialCirculant",
    "PhaseRetrieval",
    "box_inpainting",
    "centre_box",
    "drawn_box",
    "explicit_box",
    "file_inpainting",
    "gaussian_blur",
    "hole_inpainting",
    "make_operator",
    "mask_from_file",
    "motion_blur",
    "mri",
    "random_fourier",
    "random_inpainting",
    "random_pixels",
]
