"""Operators of other libraries: anything with ``A``, such as deepinv's physics, wrapped once when a solver gets it.

Solvers see real numbers in one tensor: of complex measurements the real and imaginary parts, of a list (deepinv's
``TensorList``) its tensors side by side, [N, M] then. What else there is to know of A is found by measuring three
pictures: whether it is linear, and of a linear A which entries stay 0 whatever the picture. Those are not observed, as
those that a mask of ours leaves out, so the error has the one scale of all operators.
"""

from typing import Any

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.adapted import Adapted
from rtil.inverse.operators.base import Operator
from rtil.inverse.operators.noise import GaussianNoise, known_sigma
from rtil.inverse.operators.nonlinear import NonlinearOperator
from rtil.seeds import generator

LINEAR_TOLERANCE = 1e-3


class ForeignOperator(NonlinearOperator):
    """What solvers need of an operator, by its ``A`` alone.

    Args:
        foreign: Anything with ``A``, from pictures [N, 3, H, W] in [0, 1] to measurements: a tensor, real or complex,
            or a list of them, differentiable in the pictures. If it has an ``img_size`` that is not None, it must be
            the pictures'; if its ``noise_model`` is a ``GaussianNoise`` of one sigma, that is the noise's.
        y: Measurements that it made, as :func:`packed` returns them, real [N, ...].
        side: Of the generator's pictures, in pixels.

    Attributes:
        is_linear: As found by measuring.
        is_identity: Whether it measures every pixel as it is, which is denoising.

    Raises:
        UserError: It has no ``A``, measures pictures of another size, cannot measure colour pictures, makes other
            measurements than y, or has no gradient.
    """

    observed_entries: Tensor

    def __init__(self, foreign: Any, y: Tensor, side: int) -> None:
        expected = (3, side, side)
        name = foreign.name if isinstance(foreign, Adapted) else type(foreign).__name__
        if not callable(getattr(foreign, "A", None)):
            raise UserError(f"operator is {name}, which has no method A: give an Operator, or a physics of deepinv")
        size = getattr(foreign, "img_size", None)
        if size is not None and tuple(size) != expected:
            raise UserError(
                f"operator {name} measures pictures {tuple(size)} but the generator's are {expected}: build it for "
                "these, or say with rtil.inverse.operators.Adapted how colour pictures enter it"
            )
        super().__init__(
            expected, y.shape[1:], name, GaussianNoise(known_sigma(getattr(foreign, "noise_model", None)) or 0.0)
        )
        self.foreign_A = foreign.A  # not the object itself: a module would become part of this one
        self.to(y.device)
        self._look(len(y))

    @property
    def observed(self) -> Tensor:
        """All entries but those that a linear A leaves 0; of a complex one, each part for itself."""
        return self.observed_entries

    @property
    def error_normaliser(self) -> float:
        """Number of observed entries; a complex one counts once."""
        return self._normaliser

    def A(self, x: Tensor, **_: Any) -> Tensor:
        """Measure pictures as the foreign operator does, and pack the measurements.

        Raises:
            UserError: What it returns has not y's shape.
        """
        return self._of_shape(packed(self.foreign_A(x)), x)

    def measure(self, x: Tensor) -> Tensor:
        """Return :meth:`A`."""
        return self.A(x)

    @torch.enable_grad()
    def _look(self, images: int) -> None:
        """Measure two pictures and their sum, each as often as there are images: masks may be one to each image."""
        rng = generator(0, "foreign/probe")
        first, second = (torch.rand(self.img_size, generator=rng).to(self.all_observed.device) / 2 for _ in range(2))
        seen, other, both = (self._try(picture.repeat(images, 1, 1, 1)) for picture in (first, second, first + second))
        summed, entries = packed(seen) + packed(other), packed(seen).detach()
        deviation = (packed(both) - summed).abs().max()
        self.is_linear = bool(deviation <= LINEAR_TOLERANCE * summed.abs().max())
        self.is_identity = entries.shape[1:] == self.img_size and bool((entries == first).all())
        reached = [(part != 0).any(0) if self.is_linear else part[0].isfinite() for part in _parts(seen)]
        self._normaliser = float(max(1, sum(int(part.sum()) for part in reached)))
        observed = (entries != 0).any(0) if self.is_linear else entries[0].isfinite()
        self.register_buffer("observed_entries", observed, persistent=False)

    def _try(self, x: Tensor) -> Any:
        """Measure pictures for the first time."""
        try:
            measured = self.foreign_A(x.requires_grad_())
        except UserError:
            raise
        except Exception as error:
            said = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"operator {self.name} cannot measure pictures {list(x.shape)} ({type(error).__name__}: {said}): build "
                "it for these, or say with rtil.inverse.operators.Adapted how colour pictures enter it"
            ) from error
        if not self._of_shape(packed(measured), x).requires_grad:
            raise UserError(f"operator {self.name} has no gradient: what its A returns does not depend on the pictures")
        return measured

    def _of_shape(self, measured: Tensor, x: Tensor) -> Tensor:
        if measured.shape != (len(x), *self.measurement_shape):
            raise UserError(
                f"operator {self.name} measures {list(measured.shape)} of {list(x.shape)} but y is "
                f"[N, {', '.join(map(str, self.measurement_shape))}]: give the operator that made y"
            )
        return measured


def as_operator(operator: Any, y: Tensor, side: int) -> Operator:
    """Return the operator itself, or one of another library wrapped; see :class:`ForeignOperator`."""
    return operator if isinstance(operator, Operator) else ForeignOperator(operator, y, side)


def packed(y: Any) -> Tensor:
    """Return measurements as one tensor of real numbers: a real one [N, ...] as it is, others flattened, [N, M].

    Args:
        y: A tensor [N, ...], real or complex, or a list of such, as deepinv's ``TensorList`` is one.

    Raises:
        UserError: y is something else.

    Example:
        >>> packed([torch.ones(2, 3, 4), torch.ones(2, 5, dtype=torch.complex64)]).shape
        torch.Size([2, 22])
    """
    parts = _parts(y)
    if len(parts) == 1 and not parts[0].is_complex():
        return parts[0]
    real = [torch.view_as_real(part) if part.is_complex() else part for part in parts]
    return torch.cat([part.reshape(len(part), -1) for part in real], 1)


def _parts(y: Any) -> list[Tensor]:
    if isinstance(y, Tensor):
        return [y]
    if isinstance(y, str) or not hasattr(y, "__getitem__") or not hasattr(y, "__len__") or len(y) == 0:
        raise UserError(f"measurements are {type(y).__name__}: valid are a tensor [N, ...] or a list of such")
    return [part for i in range(len(y)) for part in _parts(y[i])]
