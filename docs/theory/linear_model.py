"""RTIL's two-layer linear model (TMLR 2023, section 5): how a generator is trained decides what ILO recovers.

    x = G*(z0, z1) = W1* (W0 z0 + z1),   z0 ~ N(0, I_n0),   z1 ~ N(0, I_n1),   n0 < n1 < nd,   W0 known

A second layer W is fitted to x by least squares over infinite data (equations 6 and 7): *vanilla* sees the input
W0 z0, *rtil* sees W0 z0 + z1. Both inputs are B z with z ~ N(0, I), B = W0 or B = [W0, I], so the loss is
||(W1* - W) B||_F^2 + const and its minimum-norm minimiser is W1* B B^+. ILO (equation 5) then fits z0 to y = A x with
z1 = 0, and z1 with z0 held. Everything is float64.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rtil.errors import UserError, unknown
from rtil.seeds import generator

Training = Literal["vanilla", "rtil"]

RANK_TOLERANCE = 1e-9
"""Singular values below this share of the largest are zero: rounding gives the null space of W0 W0^+ about 1e-15."""
GRADIENT_TOLERANCE = 1e-12


@dataclass(frozen=True)
class TwoLayerModel:
    """The true generator: x = W1 (W0 z0 + z1).

    Attributes:
        W0: Known first layer [n1, n0].
        W1: True second layer [nd, n1].
    """

    W0: Tensor
    W1: Tensor

    def generate(self, z0: Tensor, z1: Tensor) -> Tensor:
        """Map z0 [N, n0] and z1 [N, n1] to signals [N, nd]."""
        return (z0 @ self.W0.T + z1) @ self.W1.T

    @property
    def signal_energy(self) -> float:
        """E ||x||^2."""
        return float((self.W1 @ self.W0).square().sum() + self.W1.square().sum())


def draw_model(n0: int, n1: int, nd: int, seed: int = 0) -> TwoLayerModel:
    """Draw both layers with N(0, 1) entries: full rank with probability 1.

    Raises:
        UserError: Not 1 <= n0 < n1 < nd.
    """
    if not 1 <= n0 < n1 < nd:
        raise UserError(f"sizes (n0, n1, nd) = ({n0}, {n1}, {nd}): they must grow, 1 <= n0 < n1 < nd")
    return TwoLayerModel(
        _normal(n1, n0, seed=seed, purpose="theory/W0"), _normal(nd, n1, seed=seed, purpose="theory/W1")
    )


def draw_sensing(m: int, nd: int, seed: int = 0) -> Tensor:
    """Draw a Gaussian sensing matrix A [m, nd] with entries of variance 1/m, so that E ||A x||^2 = ||x||^2."""
    return _normal(m, nd, seed=seed, purpose="theory/A") / math.sqrt(m)


def minimum_norm_weights(model: TwoLayerModel, training: Training) -> Tensor:
    """Return the trained second layer in closed form, W1* B B^+: the minimiser of least Frobenius norm.

    ``vanilla``: W1* W0 W0^+ (Lemma A.1), W1* on the range of W0 and zero off it. ``rtil``: W1* itself (Lemma 5.1),
    the only minimiser.
    """
    B = _input_factor(model, training)
    return model.W1 @ B @ _pinv(B)


def gradient_descent(
    model: TwoLayerModel, training: Training, start: Tensor | None = None, max_steps: int = 200_000
) -> Tensor:
    """Train the second layer by gradient descent on the infinite-data loss ||(W1* - W) B||_F^2, step 1 / L.

    A gradient 2 (W - W1*) B B^T never leaves the row space of B^T: what ``start`` has off the range of B stays, and
    from zero (the default) gradient descent finds the minimum-norm solution.

    Args:
        model: The truth.
        training: Which input the second layer sees.
        start: Initial W [nd, n1].
        max_steps: Limit; descent ends when the gradient has fallen by 10^12.

    Raises:
        UserError: The limit is reached first (a badly conditioned W0).
    """
    B = _input_factor(model, training)
    covariance = B @ B.T
    lipschitz = torch.linalg.matrix_norm(covariance, 2)
    W = torch.zeros_like(model.W1) if start is None else start.clone()
    scale = torch.linalg.matrix_norm(model.W1 @ covariance)
    for _ in range(max_steps):
        gradient = (W - model.W1) @ covariance
        if torch.linalg.matrix_norm(gradient) <= GRADIENT_TOLERANCE * scale:
            return W
        W -= gradient / lipschitz
    raise UserError(f"gradient descent has not converged in {max_steps} steps: raise max_steps or draw another W0")


def recover(W: Tensor, W0: Tensor, A: Tensor, y: Tensor, z1_start: Tensor | None = None) -> Tensor:
    """Recover signals by ILO's two steps (equation 5), each solved exactly as gradient descent from its start would.

    z0 = argmin ||y - A W W0 z0||, from zero; z1 = argmin ||y - A W (W0 z0 + z1)||, the solution nearest to z1_start.

    Args:
        W: Trained second layer [nd, n1].
        W0: First layer [n1, n0].
        A: Sensing matrix [m, nd].
        y: Measurements [N, m].
        z1_start: Start of the second step [N, n1]; zero by default.

    Returns:
        Signals [N, nd].
    """
    sensed = A @ W
    hidden = y @ _pinv(sensed @ W0).T @ W0.T
    if z1_start is not None:
        hidden = hidden + z1_start
    hidden = hidden + (y - hidden @ sensed.T) @ _pinv(sensed).T
    return hidden @ W.T


def expected_error(W: Tensor, model: TwoLayerModel, A: Tensor, noise_variance: float = 0.0) -> float:
    """Return E ||x - x_hat||^2 in closed form for any W and m, over z0, z1, the start z1 ~ N(0, I) and the noise of y.

    The recovery is linear, x_hat = R y + W (I - S^+ S) z1_start with S = A W, so the error is
    ||(I - R A) W1* [W0, I]||_F^2 + noise_variance ||R||_F^2 + ||W (I - S^+ S)||_F^2.
    """
    R = recovery_matrix(W, model.W0, A)
    signal = model.W1 @ _input_factor(model, "rtil")
    sensed = A @ W
    unseen = W - W @ _pinv(sensed) @ sensed
    missed = signal - R @ (A @ signal)
    return float(missed.square().sum() + noise_variance * R.square().sum() + unseen.square().sum())


def recovery_matrix(W: Tensor, W0: Tensor, A: Tensor) -> Tensor:
    """Return R [nd, m] of the recovery x_hat = R y with both steps started at zero."""
    return recover(W, W0, A, torch.eye(len(A), dtype=A.dtype)).T


def vanilla_error(model: TwoLayerModel, A: Tensor) -> float:
    """Return the left side of equation 8 in closed form, from its proof; valid for m >= n0.

    E ||x - x_hat||^2 = ||W1* - W1* W0 M||_F^2,   M = (A W1* W0)^+ A W1*.
    """
    base = model.W1 @ model.W0
    return float((model.W1 - base @ (_pinv(A @ base) @ (A @ model.W1))).square().sum())


def vanilla_error_bounds(model: TwoLayerModel) -> tuple[float, float]:
    """Return the Frobenius and the spectral lower bound on :func:`vanilla_error`, whatever A.

    With P the projector onto the range of W1* W0: ||(I - P) W1*||_F^2, and its spectral norm squared, which is the
    right side of equation 8 over *unit* h orthogonal to the range of W0 (the paper omits ||h|| = 1).
    """
    base = model.W1 @ model.W0
    missed = model.W1 - base @ (_pinv(base) @ model.W1)
    return float(missed.square().sum()), float(torch.linalg.matrix_norm(missed, 2).square())


def monte_carlo_error(W: Tensor, model: TwoLayerModel, A: Tensor, samples: int, seed: int = 0) -> tuple[float, float]:
    """Return mean and standard error of ||x - x_hat||^2 over drawn signals; z1 starts at N(0, I), as in equation 5."""
    n1, n0 = model.W0.shape
    z0, z1, z1_start = (
        _normal(samples, size, seed=seed, purpose=f"theory/{name}")
        for name, size in (("z0", n0), ("z1", n1), ("z1 start", n1))
    )
    x = model.generate(z0, z1)
    errors = (recover(W, model.W0, A, x @ A.T, z1_start) - x).square().sum(1)
    return float(errors.mean()), float(errors.std() / math.sqrt(samples))


def _input_factor(model: TwoLayerModel, training: Training) -> Tensor:
    """Return B [n1, k]: the second layer's training input is B z, z ~ N(0, I_k)."""
    if training == "vanilla":
        return model.W0
    if training == "rtil":
        return torch.cat([model.W0, torch.eye(len(model.W0), dtype=model.W0.dtype)], 1)
    raise unknown("training", training, ("vanilla", "rtil"))


def _pinv(matrix: Tensor) -> Tensor:
    return torch.linalg.pinv(matrix, rtol=RANK_TOLERANCE)


def _normal(*shape: int, seed: int, purpose: str) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed, purpose))
