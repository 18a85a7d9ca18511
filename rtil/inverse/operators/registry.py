"""The tasks by name: what each one is called, which parameter it takes, and how its operator is built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtil.errors import UserError, unknown
from rtil.inverse.operators.base import Operator
from rtil.inverse.operators.blur import gaussian_blur, motion_blur
from rtil.inverse.operators.circulant import PartialCirculant
from rtil.inverse.operators.colorize import Colorization
from rtil.inverse.operators.dense import DenseGaussian
from rtil.inverse.operators.dynamic_range import HighDynamicRange
from rtil.inverse.operators.fourier import mri, random_fourier
from rtil.inverse.operators.masks import box_inpainting, file_inpainting, hole_inpainting, random_inpainting
from rtil.inverse.operators.noise import GaussianNoise
from rtil.inverse.operators.phase import FourierPhase, PhaseRetrieval
from rtil.inverse.operators.resample import Downsampling
from rtil.inverse.operators.simple import Denoising, Identity

PARAMETERS: Mapping[str, str] = {
    "rate": "observed fraction, 0 < rate <= 1",
    "factor": "whole number >= 2 that divides height and width",
    "sigma": "standard deviation of the noise on the 0-255 scale, >= 0",
    "mask": "picture file of the images' size; white is observed, black or transparent is missing",
    "width": "standard deviation of the blur in pixels, 0 < width <= the shorter side",
    "length": "length of the motion in pixels, 0 < length <= the shorter side",
    "exposures": "number of coded masks, whole number >= 1",
}
"""Every parameter a task may take, with its meaning and valid values."""


@dataclass(frozen=True)
class OperatorTask:
    """One task of the registry.

    Attributes:
        meaning: One line for help texts.
        parameters: Names of :data:`PARAMETERS` of which exactly one must be given; empty when the task takes none.
        takes_noise: Whether ``noise_sigma`` applies.
        build: Called as ``build(img_size, seed, noise_model, **{parameter: value})``.
        linear: Whether A is linear. If not there is no adjoint, and with it no linear prior.
    """

    meaning: str
    parameters: tuple[str, ...]
    takes_noise: bool
    build: Callable[..., Operator]
    linear: bool = True


def _inpaint(
    img_size: Sequence[int], seed: int, noise: GaussianNoise, rate: float | None = None, mask: str | Path | None = None
) -> Operator:
    if mask is not None:
        return file_inpainting(img_size, mask, noise)
    assert rate is not None  # noqa: S101  make_operator gives exactly one
    return random_inpainting(img_size, rate, seed, noise)


def _drawn(make: Callable[..., Operator]) -> Callable[..., Operator]:
    """Build by ``make(img_size, parameter, seed, noise_model)``."""
    return lambda img_size, seed, noise, **parameter: make(img_size, *parameter.values(), seed, noise)


def _plain(make: Callable[..., Operator]) -> Callable[..., Operator]:
    """Build by ``make(img_size, parameter, noise_model)``, or without a parameter: nothing is drawn."""
    return lambda img_size, seed, noise, **parameter: make(img_size, *parameter.values(), noise)


def _denoise(img_size: Sequence[int], seed: int, noise: GaussianNoise, sigma: float) -> Operator:
    return Denoising(img_size, sigma, seed)  # whose noise is its own


OPERATORS: Mapping[str, OperatorTask] = {
    "cs": OperatorTask("compressed sensing with a partial circulant matrix", ("rate",), True, _drawn(PartialCirculant)),
    "inpaint": OperatorTask("fill in pixels missing at random, or by a mask file", ("rate", "mask"), True, _inpaint),
    "box": OperatorTask("fill in a missing centred box", ("rate",), True, _plain(box_inpainting)),
    "hole": OperatorTask("fill in a missing box at a drawn place", ("rate",), True, _drawn(hole_inpainting)),
    "sr": OperatorTask(
        "super-resolution from antialiased bicubic downsampling", ("factor",), True, _plain(Downsampling)
    ),
    "denoise": OperatorTask("remove Gaussian noise from a clipped picture", ("sigma",), False, _denoise),
    "colorize": OperatorTask("find the colours of a grey picture, whose luma is kept", (), True, _plain(Colorization)),
    "inversion": OperatorTask("reproduce a fully observed picture", (), True, _plain(Identity)),
    "blur": OperatorTask("undo a Gaussian blur", ("width",), True, _plain(gaussian_blur)),
    "motion": OperatorTask("undo the blur of a straight motion", ("length",), True, _drawn(motion_blur)),
    "gaussian": OperatorTask("compressed sensing with a dense Gaussian matrix", ("rate",), True, _drawn(DenseGaussian)),
    "mri": OperatorTask("single-coil MRI from lines of the Fourier plane", ("rate",), True, _drawn(mri)),
    "fourier": OperatorTask("reconstruct from random frequencies", ("rate",), True, _drawn(random_fourier)),
    "phase": OperatorTask(
        "phase retrieval from coded diffraction", ("exposures",), True, _drawn(PhaseRetrieval), linear=False
    ),
    "fourier_phase": OperatorTask(
        "phase retrieval from one oversampled Fourier transform", (), True, _plain(FourierPhase), linear=False
    ),
    "hdr": OperatorTask("restore what doubled contrast has clipped", (), True, _plain(HighDynamicRange), linear=False),
}
"""The tasks, by the name that users type."""


def make_operator(
    task: str,
    img_size: Sequence[int],
    *,
    rate: float | None = None,
    factor: int | None = None,
    sigma: float | None = None,
    mask: str | Path | None = None,
    width: float | None = None,
    length: float | None = None,
    exposures: int | None = None,
    noise_sigma: float = 0.0,
    seed: int = 0,
) -> Operator:
    """Build the operator of a task; the same arguments give the same operator and, per image id, the same noise.

    Args:
        task: A name of :data:`OPERATORS`.
        img_size: (C, H, W) of one picture.
        rate: Observed fraction, 0 < rate <= 1 (cs, gaussian, mri, fourier, inpaint, box, hole).
        factor: Downsampling factor (sr).
        sigma: Noise on the 0-255 scale (denoise).
        mask: Mask file: white is observed, black or transparent missing (inpaint, in place of rate).
        width: Standard deviation of the blur in pixels (blur).
        length: Length of the motion in pixels (motion).
        exposures: Number of coded masks (phase).
        noise_sigma: Standard deviation of measurement noise in the units of y, where pictures are in [0, 1].
        seed: Root seed of everything drawn.

    Raises:
        UserError: An unknown task, a parameter that is missing, out of range or not the task's.

    Example:
        >>> operator = make_operator("cs", (3, 32, 32), rate=0.1)
        >>> operator.label, operator.measurement_shape
        ('cs 10 %', (307,))
    """
    if task not in OPERATORS:
        raise unknown("task", task, OPERATORS)
    chosen = OPERATORS[task]
    values: dict[str, Any] = {"rate": rate, "factor": factor, "sigma": sigma, "mask": mask}
    values |= {"width": width, "length": length, "exposures": exposures}
    given = {name: value for name, value in values.items() if value is not None}
    foreign = [name for name in given if name not in chosen.parameters]
    if foreign:
        takes = " or ".join(chosen.parameters) or "no parameter"
        raise UserError(f"task '{task}' does not take {', '.join(foreign)}: it takes {takes}")
    if chosen.parameters and len(given) != 1:
        needs = " or ".join(f"{name} ({PARAMETERS[name]})" for name in chosen.parameters)
        got = " and ".join(given) or "none"
        count = "exactly one of " if len(chosen.parameters) > 1 else ""
        raise UserError(f"task '{task}' needs {count}{needs}: got {got}")
    if noise_sigma != 0 and not chosen.takes_noise:
        raise UserError(f"task '{task}' does not take noise_sigma: its noise is {' or '.join(chosen.parameters)}")
    return chosen.build(img_size, seed, GaussianNoise(noise_sigma, seed), **given)
