"""What no picture of a generator can be, as a Gaussian beside it.

A picture is x = G(z) + r, where r ~ N(m, S) are the errors of training pictures that were measured completely and
inverted by the same solver. Of y = A x + N(0, s^2 I) the latents see

    (A G(z) + A m - y)^T K^-1 (A G(z) + A m - y),    K = A S A^T + s^2 I

in place of the squared error, so that they are not bent to explain what is no picture of G; where they end,

    x = G(z) + m + S A^T K^-1 (y - A G(z) - A m)

is r's posterior mean (for compressed sensing with GANs: Dhar et al. 2018 have a sparse r without a model). With a
constant G, r is all there is, and x the linear prior's posterior mean; with a linear G and a Gaussian z the minimiser
with |z|^2 beside it gives the exact one.

S of few pictures in many dimensions: their covariance, shrunk towards one that is diagonal in the principal axes of the
training pictures with one variance for each band, by the share that has the least expected squared error (Ledoit and
Wolf 2004, for another target).
"""

from itertools import pairwise

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.evaluation.fusion import bands
from rtil.evaluation.linear_prior import FULL_UNKNOWNS, LinearPrior, Measured, PosteriorMean
from rtil.inverse.operators.base import LinearOperator

SURE_OF = 1e-12


def fit_errors(axes: Tensor, errors: Tensor) -> LinearPrior:
    """Return mean and covariance of representation errors.

    Args:
        axes: Principal axes of pictures, [n, n] orthonormal columns, largest variance first.
        errors: Pictures less what was found of them, [N, C, H, W], N >= 2.

    Raises:
        UserError: The pictures are too large for a full covariance.
    """
    C, H, W = errors.shape[1:]
    n = C * H * W
    check_size(n)
    flat = errors.flatten(1).double().cpu()
    mean = flat.mean(0)
    centred = (flat - mean) @ axes.double()
    N = len(centred)
    sample = centred.T @ centred / (N - 1)
    variances, edges = sample.diagonal(), bands(axes)
    parts = [variances[first:last].mean().expand(last - first) for first, last in pairwise(edges)]
    target = torch.diag(torch.cat(parts))
    noise = (centred.square().sum(1).square().sum() / N - sample.square().sum()) / N
    share = float((noise / (sample - target).square().sum().clamp(min=SURE_OF)).clamp(0, 1))
    shrunk = (1 - share) * sample + share * target
    covariance = axes.double() @ shrunk @ axes.double().T
    return LinearPrior((C, H, W), mean, covariance=(covariance + covariance.T) / 2)


def check_size(n: int) -> None:
    """Raise UserError unless a full covariance of pictures of so many values fits."""
    if n > FULL_UNKNOWNS:
        raise UserError(
            f"representation errors of pictures of {n} values: valid are at most {FULL_UNKNOWNS} (3 x 32 x 32), whose "
            "covariance is one matrix; leave representation away"
        )


class Explained(LinearOperator):
    """A linear operator to whose error r counts as noise.

    Args:
        operator: What measured.
        errors: m and S.
    """

    entries_have_errors = False
    whitening: Tensor
    shift: Tensor
    posterior_variance: Tensor

    def __init__(self, operator: LinearOperator, errors: LinearPrior) -> None:
        super().__init__(operator.img_size, operator.measurement_shape, operator.name)
        self.noise_model, self.inner, self.is_identity = operator.noise_model, operator, operator.is_identity
        measured, device = Measured(operator), operator.all_observed.device
        K = errors.covariance_of(measured, operator.noise_model.sigma)
        identity = torch.eye(len(K), dtype=torch.float64)
        whitening = torch.linalg.solve_triangular(torch.linalg.cholesky(K), identity, upper=False)
        self.scale = 4 * float(K.diagonal().sum()) / operator.error_normaliser
        self.register_buffer("whitening", whitening.float(), persistent=False)
        self.register_buffer("shift", measured.matrix(errors.mean[None]).float()[0], persistent=False)
        variance = errors.posterior_variance(operator).float()
        self.register_buffer("posterior_variance", variance, persistent=False)
        self._posterior: PosteriorMean = errors.condition(operator)
        self.to(device)

    @property
    def known_deviation(self) -> float:
        """Of r and the noise together; see :attr:`Operator.known_deviation`."""
        return self.scale**0.5

    def error(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the squared error whitened by K, [N], scaled to that of the operator where K is a multiple of I."""
        assert weight is None  # noqa: S101  entries have no errors of their own
        residual = (self.inner.A(x) - y).flatten(1)[:, self.observed.flatten()] + self.shift
        return self.scale * (residual @ self.whitening.T).square().mean(1)

    @torch.no_grad()
    def complete(self, x: Tensor, y: Tensor) -> Tensor:
        """Return pictures [N, C, H, W], not clamped, with r's posterior mean added to those of the generator."""
        return x + self._posterior(y - self.inner.A(x))

    @torch.no_grad()
    def spread(self, attempts: Tensor, y: Tensor) -> Tensor:
        """Return the standard deviation of pictures, [N, C, H, W]: of completed attempts, and of r once y is known.

        Args:
            attempts: Pictures of the generator, [S, N, C, H, W].
            y: Measurements.
        """
        completed = torch.stack([self.complete(x, y).clamp(0, 1) for x in attempts])
        return (completed.var(0) + self.posterior_variance).sqrt()

    def measure(self, x: Tensor) -> Tensor:
        """Measure as the operator does."""
        return self.inner.measure(x)

    def transpose(self, y: Tensor) -> Tensor:
        """Apply the operator's transpose."""
        return self.inner.transpose(y)

    def consistent(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what the operator says."""
        return self.inner.consistent(x, y)

    @property
    def observed(self) -> Tensor:
        """Those of the operator."""
        return self.inner.observed

    @property
    def error_normaliser(self) -> float:
        """That of the operator."""
        return self.inner.error_normaliser
