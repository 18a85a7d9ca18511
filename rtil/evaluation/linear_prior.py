"""The linear prior: how far one gets with nothing but the mean and covariance of the training pictures.

Pictures are taken as one Gaussian, x ~ N(mu, C), measured by y = A x + N(0, s^2 I). The posterior mean, the best
linear estimate whatever the true distribution, is

    x = mu + C A^T (A C A^T + s^2 I)^-1 (y - A mu).

Up to 3072 unknowns (3 x 32 x 32) A is built as a matrix and this is computed as it stands, in float64. Larger pictures
keep the k <= 2000 leading principal components U, C = U D U^T + r I, r the mean variance of the others. Their share of
the measurement is counted as white noise, t = s^2 + r |A|_F^2 / M, and by the Woodbury identity, with B = A U,

    x = mu + U (D^-1 + B^T B / t)^-1 B^T (y - A mu) / t.

Clipping (denoising) is not modelled.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.inverse.operators.base import Operator
from rtil.inverse.operators.nonlinear import NonlinearOperator
from rtil.seeds import generator

FULL_UNKNOWNS = 3072
MOST_COMPONENTS = 2000
RELATIVE_JITTER = 1e-9
"""Added noise variance as a fraction of the mean variance of a measurement: keeps noiseless systems solvable."""
JITTER = 1e-12
"""The same in absolute terms, for pictures without variance; bytes carry a rounding error of variance 1e-6."""
CHUNK = 1024
PROBES = 8
SUBSPACE_PASSES = 4

PosteriorMean = Callable[[Tensor], Tensor]
"""From measurements [N, *measurement_shape] to pictures [N, C, H, W] on their device, not clamped."""


@dataclass(frozen=True)
class LinearPrior:
    """A Gaussian with the mean and covariance of training pictures.

    Attributes:
        img_size: (C, H, W).
        mean: mu, float64 [n], n = C H W, pictures in [0, 1].
        covariance: C, float64 [n, n]; or None with ``components``.
        components: U, [n, k], orthonormal columns.
        variances: Diagonal of D + r I, the k leading eigenvalues of C, float64 [k].
        residual: r, mean variance in the directions that were dropped.
    """

    img_size: tuple[int, int, int]
    mean: Tensor
    covariance: Tensor | None = None
    components: Tensor | None = None
    variances: Tensor | None = None
    residual: float = 0.0

    @classmethod
    def fit(cls, images: Tensor) -> "LinearPrior":
        """Take mean and covariance from pictures, uint8 [N, C, H, W], wanted are many more than unknowns.

        Raises:
            UserError: Fewer than two pictures, or pictures that are not bytes.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) < 2:
            raise UserError(
                f"the linear prior is fitted to at least 2 pictures, uint8 [N, C, H, W]: "
                f"got {images.dtype} {list(images.shape)}"
            )
        C, H, W = images.shape[1:]
        flat = images.flatten(1)
        mean = torch.stack([chunk.double().sum(0) for chunk in flat.split(CHUNK)]).sum(0) / len(flat)
        if flat.shape[1] <= FULL_UNKNOWNS:
            return cls((C, H, W), mean / 255, covariance=_covariance(flat, mean) / 255**2)
        kept = min(MOST_COMPONENTS, len(flat) - 1)
        vectors, values, residual = _principal_components(flat, mean.float(), kept)
        return cls((C, H, W), mean / 255, None, vectors, values / 255**2, residual / 255**2)

    def condition(self, operator: Operator) -> PosteriorMean:
        """Do all the work that does not depend on y, for batches measured with the same operator.

        Raises:
            UserError: The operator is nonlinear, or its pictures have another size than the prior's.
        """
        if isinstance(operator, NonlinearOperator):
            raise UserError(f"'{operator.label}' is nonlinear: the linear prior is for linear operators only")
        if tuple(operator.img_size) != self.img_size:
            raise UserError(
                f"the linear prior knows pictures of size {self.img_size} but the operator measures {operator.img_size}"
            )
        sigma, measured = operator.noise_model.sigma, Measured(operator)
        A_mu = measured.matrix(self.mean[None])[0]
        deviation = self._full(measured, sigma) if self.covariance is not None else self._leading(measured, sigma)

        def posterior_mean(y: Tensor) -> Tensor:
            operator.check_measurement(y)
            surprise = measured.observed_part(y.cpu().double()) - A_mu
            x = self.mean + deviation(surprise)
            return x.unflatten(1, self.img_size).to(y.dtype).to(y.device)

        return posterior_mean

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw pictures, float32 [count, C, H, W], not clamped.

        Args:
            count: How many.
            rng: Source of the draws.
        """
        n = self.mean.numel()
        if self.covariance is not None:
            jitter = JITTER + RELATIVE_JITTER * self.covariance.diagonal().mean()
            factor = torch.linalg.cholesky(self.covariance + jitter * torch.eye(n, dtype=torch.float64))
            x = torch.randn(count, n, generator=rng).double() @ factor.T
        else:
            assert self.components is not None and self.variances is not None  # noqa: S101, PT018
            strength = (self.variances - self.residual).clamp(min=0).sqrt()
            leading = torch.randn(count, len(strength), generator=rng).double() * strength
            x = leading @ self.components.T.double() + self.residual**0.5 * torch.randn(count, n, generator=rng)
        return (self.mean + x).float().unflatten(1, self.img_size)

    @cached_property
    def axes(self) -> Tensor:
        """The principal axes as orthonormal columns [n, k], largest variance first."""
        if self.components is not None:
            return self.components
        assert self.covariance is not None  # noqa: S101
        return torch.linalg.eigh(self.covariance)[1].flip(1)

    def covariance_of(self, measured: "Measured", sigma: float) -> Tensor:
        """Return that of measurements, A C A^T + s^2 I, [M, M], of a prior with a full covariance."""
        assert self.covariance is not None  # noqa: S101
        return self._gram(measured.matrix(measured.matrix(self.covariance).T), sigma)

    def posterior_variance(self, operator: Operator) -> Tensor:
        """Return diag(C - C A^T (A C A^T + s^2 I)^-1 A C), [C, H, W] float64, of a prior with a full covariance."""
        assert self.covariance is not None  # noqa: S101
        measured = Measured(operator)
        A_C = measured.matrix(self.covariance).T
        factor = torch.linalg.cholesky(self._gram(measured.matrix(A_C), operator.noise_model.sigma))
        gain = torch.linalg.solve_triangular(factor, A_C, upper=False)
        variance = (self.covariance.diagonal() - gain.square().sum(0)).clamp(min=0)
        return variance.unflatten(0, self.img_size)

    def _gram(self, gram: Tensor, sigma: float) -> Tensor:
        noise = sigma**2 + RELATIVE_JITTER * gram.diagonal().mean().item() + JITTER
        return gram.diagonal_scatter(gram.diagonal() + noise)

    def _full(self, measured: "Measured", sigma: float) -> Callable[[Tensor], Tensor]:
        """Return the map of y - A mu, [N, M], to C A^T (A C A^T + s^2 I)^-1 (y - A mu), [N, n]."""
        assert self.covariance is not None  # noqa: S101
        A_C = measured.matrix(self.covariance).T  # [M, n]: C is symmetric, so its rows are its columns
        factor = torch.linalg.cholesky(self._gram(measured.matrix(A_C), sigma))  # of A C A^T + s^2 I, [M, M]
        return lambda surprise: torch.cholesky_solve(surprise.T, factor).T @ A_C

    def _leading(self, measured: "Measured", sigma: float) -> Callable[[Tensor], Tensor]:
        """Return the map of y - A mu to U (D^-1 + B^T B / t)^-1 B^T (y - A mu) / t, [N, n]."""
        assert self.components is not None and self.variances is not None  # noqa: S101, PT018
        U, B_T = self.components, measured.matrix(self.components.T)  # [n, k], [k, M]
        D = (self.variances - self.residual).clamp(min=JITTER)
        noise = sigma**2 + self.residual * measured.mean_row_energy() + JITTER
        noise += RELATIVE_JITTER * (D @ B_T.square().mean(1)).item()
        factor = torch.linalg.cholesky(B_T @ B_T.T + torch.diag(noise / D))
        return lambda surprise: torch.cholesky_solve(B_T @ surprise.T, factor).T @ U.T.double()


class Measured:
    """The observed rows of an operator, on the CPU in float64."""

    def __init__(self, operator: Operator) -> None:
        self.operator = copy.deepcopy(operator).cpu().double()
        self.observed = self.operator.observed.flatten()

    def observed_part(self, y: Tensor) -> Tensor:
        """Return the entries [N, M] of measurements [N, *measurement_shape] that are observed."""
        return y.flatten(1)[:, self.observed]

    @torch.no_grad()
    def matrix(self, rows: Tensor) -> Tensor:
        """Measure pictures given as rows [N, n]; returns [N, M] float64."""
        size = self.operator.img_size
        return torch.cat(
            [self.observed_part(self.operator.A(chunk.double().unflatten(1, size))) for chunk in rows.split(CHUNK)]
        )

    def mean_row_energy(self) -> float:
        """Estimate |A|_F^2 / M from E |A v|^2 over random signs v."""
        n = math.prod(self.operator.img_size)
        signs = torch.randint(0, 2, (PROBES, n), generator=generator(0, "linear-prior/probe")) * 2 - 1
        return float(self.matrix(signs).square().mean())


def _covariance(flat: Tensor, mean: Tensor) -> Tensor:
    """Return the covariance of byte pictures [N, n] in squared byte units, float64.

    Bytes less 128 have products of at most 2^14, so a float32 product over 1024 pictures is exact.
    """
    n = flat.shape[1]
    products = torch.zeros(n, n, dtype=torch.float64)
    for chunk in flat.split(CHUNK):
        centred = chunk.float() - 128
        products += (centred.T @ centred).double()
    offset = mean - 128
    return (products - len(flat) * torch.outer(offset, offset)) / (len(flat) - 1)


def _principal_components(flat: Tensor, mean: Tensor, kept: int) -> tuple[Tensor, Tensor, float]:
    """Return U [n, k], their variances [k], and the mean variance of the rest, by randomised subspace iteration.

    Halko, Martinsson and Tropp 2011, algorithm 4.4, a tenth more directions than are kept.
    """
    N, n = flat.shape
    width = min(kept + kept // 10 + 8, N, n)
    basis = torch.randn(n, width, generator=generator(0, "linear-prior/subspace"))
    total = sum(((chunk.float() - mean).square().sum().double().item()) for chunk in flat.split(CHUNK)) / (N - 1)
    for _ in range(SUBSPACE_PASSES):
        basis = torch.linalg.qr(basis)[0]
        image = torch.zeros(n, width)
        for chunk in flat.split(CHUNK):
            centred = chunk.float() - mean
            image += centred.T @ (centred @ basis)
        basis = image
    orthonormal = torch.linalg.qr(basis)[0]
    scores = torch.cat([(chunk.float() - mean) @ orthonormal for chunk in flat.split(CHUNK)]).double()
    values, vectors = torch.linalg.eigh(scores.T @ scores / (N - 1))
    values, vectors = values.flip(0)[:kept], vectors.flip(1)[:, :kept]
    residual = max(total - values.sum().item(), 0.0) / max(n - kept, 1)
    return orthonormal @ vectors.float(), values.clamp(min=torch.finfo(torch.float64).tiny), residual
