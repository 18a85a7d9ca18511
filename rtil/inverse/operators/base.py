"""Forward operators y = A(x) + noise on pictures in [0, 1], and what follows when A is linear.

The names (A, A_adjoint, A_dagger, A_vjp, prox_l2, compute_norm, update, ..., noise_model, img_size) and their meaning
are those of deepinv 0.5 (https://deepinv.github.io), so either library's operators run in the other's solvers. A linear
subclass says how it measures and what the transpose of that is; everything else follows from these two. Operators that
are not linear are in :mod:`rtil.inverse.operators.nonlinear`. Keyword arguments that a method does not name are
parameters, set before it works as :meth:`Operator.update` sets them: ``operator.A(x, mask=mask)``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.adjustable import Adjustable
from rtil.inverse.operators.conjugate_gradient import conjugate_gradient, largest_eigenvalue
from rtil.inverse.operators.noise import GaussianNoise
from rtil.seeds import generator


class Operator(Adjustable, ABC):
    """A map of pictures to measurements, with its noise; linear or not.

    Drawn tensors are buffers, so ``state_dict`` reproduces the operator. float32 and float64 are computed as they
    come; half precision is computed, and returned, in float32.

    Args:
        img_size: (C, H, W) of one picture.
        measurement_shape: Shape of one picture's measurement.
        name: What is measured, for reports: ``"cs 10 %"``.
        noise_model: What :meth:`forward` adds to A(x); none by default.

    Attributes:
        img_size: (C, H, W).
        measurement_shape: Without the batch dimension.
        noise_model: Called as ``noise_model(y, image_ids)``.
    """

    entries_have_errors: ClassVar[bool] = True
    """Whether :meth:`error` is a sum over the entries of y, of which some can be held out."""
    is_identity: bool = False
    """Whether every pixel is measured as it is; with noise that is denoising."""
    all_observed: Tensor

    @property
    def known_deviation(self) -> float | None:
        """Standard deviation of :meth:`error`, where that whitens by a known covariance; None for noise alone."""
        return None

    def __init__(
        self,
        img_size: Sequence[int],
        measurement_shape: Sequence[int],
        name: str,
        noise_model: GaussianNoise | None = None,
    ) -> None:
        super().__init__()
        self.img_size = check_img_size(img_size)
        self.measurement_shape = tuple(measurement_shape)
        self.name = name
        self.noise_model = GaussianNoise(0.0) if noise_model is None else noise_model
        self.register_buffer("all_observed", torch.ones((), dtype=torch.bool), persistent=False)

    @abstractmethod
    def measure(self, x: Tensor) -> Tensor:
        """Map checked pictures [N, C, H, W], float32 or float64, to measurements of the same type."""

    @property
    def label(self) -> str:
        """A short text for reports, which tells operators of different settings apart."""
        noise = self.noise_model.text
        return f"{self.name}, {noise}" if noise else self.name

    @property
    def observed(self) -> Tensor:
        """Which entries of the measurement carry information: bool, of the measurement's shape."""
        return self.all_observed.expand(self.measurement_shape)

    @property
    def error_normaliser(self) -> float:
        """Number c such that ||A(x) - A(x')||^2 / c is, in expectation, the mean squared error of the picture.

        The number of observed entries, unless a subclass scales its measurements in another way.
        """
        return float(math.prod(self.measurement_shape))

    def A(self, x: Tensor, **parameters: Any) -> Tensor:
        """Measure pictures [N, C, H, W] in [0, 1] without noise.

        Raises:
            UserError: x has another shape than the operator's pictures, or is not floating point.
        """
        self.update_parameters(**parameters)
        return self.measure(checked("pictures", x, self.img_size))

    def error(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return 4 ||A x - y||^2 / c over the observed entries, c being :attr:`error_normaliser`.

        The 4 turns [0, 1] into generator units, so this is on one scale for every task: a weight beside it means the
        same for every operator and rate.

        Args:
            x: Pictures [N, C, H, W] in [0, 1], not clamped.
            y: Measurements [N, ...].
            weight: Factor of every squared entry, broadcastable to y; from :func:`rtil.inverse.losses.split_heldout`.

        Returns:
            [N], in expectation the mean squared error of the pictures in [-1, 1].
        """
        residual = torch.where(self.observed, self.A(x) - y, 0)
        squares = residual.square() if weight is None else residual.square() * weight
        return 4 * squares.flatten(1).sum(1) / self.error_normaliser

    @abstractmethod
    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return v's product with the Jacobian of A at x: pictures from pictures and measurements.

        Raises:
            UserError: x is no picture of the operator's, or v no measurement.
        """

    def forward(self, x: Tensor, image_ids: Sequence[str] | None = None, **parameters: Any) -> Tensor:
        """Measure pictures with noise; entries that are not observed stay 0.

        Args:
            x: Pictures [N, C, H, W] in [0, 1].
            image_ids: One name per image, by which its noise is drawn; by default its place in the batch.
            parameters: See the module; the noise's ``sigma`` is one of them.
        """
        self.update(**parameters)
        return torch.where(self.observed, self.noise_model(self.A(x), image_ids), 0)

    def __mul__(self, inner: "Operator") -> "Operator":
        """Return what measures with this operator what another one makes of the picture."""
        from rtil.inverse.operators.composed import compose  # which is made of these classes

        if not isinstance(inner, Operator):
            kind = type(inner).__name__
            raise UserError(f"an operator times {kind}: valid is another operator; deepinv's take to_deepinv(operator)")
        return compose(self, inner)

    def consistent(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what is reported where a solver found x, given that y was observed: here x itself.

        Solvers end with this step. An operator takes part when its users expect the observed part of a picture to be
        kept as it is; :class:`~rtil.inverse.operators.colorize.Colorization` does.

        Args:
            x: Pictures [N, C, H, W] in [0, 1].
            y: Their measurements [N, *measurement_shape].
        """
        return x

    def check_measurement(self, y: Tensor) -> None:
        """Tell the user, before any work, when y cannot be a measurement of this operator.

        Raises:
            UserError: y has the wrong shape, type or device, or holds NaN or infinities.
        """
        y = checked("measurements", y, self.measurement_shape)
        device = self.all_observed.device
        if y.device != device:
            raise UserError(f"measurements are on {y.device} but the operator is on {device}: move one of them")
        broken = (~y.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if broken:
            raise UserError(f"measurements hold NaN or infinity in images {broken}: every entry must be finite")

    def extra_repr(self) -> str:
        """Label and size, for print."""
        return f"{self.label}, img_size={self.img_size}"


class LinearOperator(Operator):
    """A linear map of pictures to measurements; arguments and attributes are :class:`Operator`'s."""

    @abstractmethod
    def transpose(self, y: Tensor) -> Tensor:
        """Map checked measurements to pictures by the transpose of :meth:`measure`."""

    def A_adjoint(self, y: Tensor, **parameters: Any) -> Tensor:
        """Apply the transpose of A to measurements [N, *measurement_shape]; returns [N, C, H, W].

        Raises:
            UserError: y has another shape than the operator's measurements, or is not floating point.
        """
        self.update_parameters(**parameters)
        return self.transpose(checked("measurements", y, self.measurement_shape))

    def A_adjoint_A(self, x: Tensor, **parameters: Any) -> Tensor:
        """Return A^T A x, [N, C, H, W]."""
        return self.A_adjoint(self.A(x, **parameters))

    def A_A_adjoint(self, y: Tensor, **parameters: Any) -> Tensor:
        """Return A A^T y, [N, *measurement_shape]."""
        return self.A(self.A_adjoint(y, **parameters))

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return v's product with the Jacobian of A at x, which for a linear A is ``A_adjoint(v)``."""
        return self.A_adjoint(v)

    def A_dagger(self, y: Tensor, *, tol: float = 1e-6, max_iter: int = 1000, **parameters: Any) -> Tensor:
        """Return the picture of least norm among those that minimise ||A x - y||^2, for each image on its own.

        Conjugate gradients on the normal equations; tol is relative to ||A^T y||.
        """
        self.update_parameters(**parameters)
        self.check_measurement(y)
        return conjugate_gradient(self.A_adjoint_A, self.A_adjoint(y), tol, max_iter)

    def prox_l2(
        self,
        z: Tensor | float | None,
        y: Tensor,
        gamma: float | Tensor,
        *,
        tol: float = 1e-6,
        max_iter: int = 1000,
        **parameters: Any,
    ) -> Tensor:
        """Return argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2, for each image on its own.

        Args:
            z: Pictures [N, C, H, W]; a number stands for one at every pixel, None for 0.
            y: Measurements [N, *measurement_shape].
            gamma: Step size >= 0; a tensor must broadcast to z.
            tol: Relative residual at which conjugate gradients stop.
            max_iter: Most steps of conjugate gradients.
            parameters: See the module.

        Raises:
            UserError: y is no measurement of this operator, z no picture of its size, or gamma is negative.
        """
        self.update_parameters(**parameters)
        self.check_measurement(y)
        if not torch.as_tensor(gamma >= 0).all():
            raise UserError("prox_l2's gamma is negative or NaN: valid is gamma >= 0")
        transposed = self.A_adjoint(y)
        z = z if isinstance(z, Tensor) else torch.full_like(transposed, z or 0)
        target = checked("pictures", z, self.img_size) + gamma * transposed
        return conjugate_gradient(lambda x: x + gamma * self.A_adjoint_A(x), target, tol, max_iter)

    def compute_sqnorm(self, x0: Tensor | None = None, *, max_iter: int = 100, tol: float = 1e-3, **_: Any) -> Tensor:
        """Return the largest eigenvalue of A^T A, a scalar, by power iteration.

        Args:
            x0: Pictures of any values, whose type is computed in; float32 without them.
            max_iter: Most steps.
            tol: Relative change at which they stop.
        """
        start = torch.randn(1, *self.img_size, generator=generator(0, "operator/norm")).to(self.all_observed.device)
        return largest_eigenvalue(self.A_adjoint_A, start if x0 is None else start.to(x0), tol, max_iter)

    def compute_norm(self, x0: Tensor | None = None, *, squared: bool = True, **settings: Any) -> Tensor:
        """Return the spectral norm of A, squared unless told otherwise: so it is in deepinv 0.5.

        Args:
            x0: See :meth:`compute_sqnorm`.
            squared: Return that; with False its root.
            settings: See :meth:`compute_sqnorm`.
        """
        squared_norm = self.compute_sqnorm(x0, **settings)
        return squared_norm if squared else squared_norm.sqrt()

    def adjointness_test(self, seed: int = 0) -> float:
        """Return |<A x, y> - <x, A^T y>| / (||A x|| ||y||) for one random pair in float64; about 1e-16 when right.

        On Apple's GPUs, which have no float64, in float32: about 1e-8.
        """
        rng = generator(seed, "adjointness-test")
        device = self.all_observed.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        x = torch.randn(1, *self.img_size, dtype=torch.float64, generator=rng).to(dtype).to(device)
        y = torch.randn(1, *self.measurement_shape, dtype=torch.float64, generator=rng).to(dtype).to(device)
        Ax = self.A(x)
        return float(((Ax * y).sum() - (x * self.A_adjoint(y)).sum()).abs() / (Ax.norm() * y.norm()))


def check_img_size(img_size: Sequence[int]) -> tuple[int, int, int]:
    """Return (C, H, W), or raise UserError when it is not three positive whole numbers."""
    if len(img_size) != 3 or any(not isinstance(s, int) or s < 1 for s in img_size):
        raise UserError(f"img_size is {tuple(img_size)}: valid are three whole numbers (C, H, W), each at least 1")
    C, H, W = img_size
    return C, H, W


def check_rate(rate: float) -> float:
    """Return the observed fraction, or raise UserError when it is not in (0, 1]."""
    if not 0 < rate <= 1:
        raise UserError(f"rate is {rate:g}: valid is 0 < rate <= 1, the observed fraction (0.1 for 10 %)")
    return float(rate)


def checked(what: str, t: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return t in at least float32 after a check of its shape [N, *shape] and type."""
    if t.ndim != 1 + len(shape) or tuple(t.shape[1:]) != shape:
        expected = ", ".join(map(str, shape))
        raise UserError(f"{what} have shape {list(t.shape)} but the operator expects [N, {expected}]")
    if not t.is_floating_point():
        raise UserError(f"{what} are {t.dtype} but must be floating point; bytes: divide by 255 to get [0, 1]")
    return t.float() if t.dtype.itemsize < 4 else t
