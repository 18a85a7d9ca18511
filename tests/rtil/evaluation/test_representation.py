"""Representation errors against Gaussian conditioning written out, for generators of which all is known."""

import pytest
import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.evaluation.linear_prior import LinearPrior
from rtil.evaluation.representation import Explained, fit_errors
from rtil.inverse.operators import LinearOperator, make_operator
from tests.rtil.evaluation.test_linear_prior import operator_matrix, smooth_pictures

SIZE, n = (3, 8, 8), 192
TASKS = [("cs", {"rate": 0.1, "noise_sigma": 0.02}), ("inpaint", {"rate": 0.3, "noise_sigma": 0.02})]
TASKS += [("sr", {"factor": 4}), ("denoise", {"sigma": 25})]


def linear_operator(task: str, setting: dict[str, float]) -> LinearOperator:
    operator = make_operator(task, SIZE, seed=1, **setting)
    assert isinstance(operator, LinearOperator)
    return operator


def random_covariance(scale: float, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=rng, dtype=torch.float64) * torch.logspace(0, -2, n, dtype=torch.float64)
    return scale * root @ root.T / n + 1e-6 * torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize(("task", "setting"), TASKS)
def test_with_a_constant_generator_it_is_the_linear_prior(task: str, setting: dict[str, float]) -> None:
    prior, operator = LinearPrior.fit(smooth_pictures(600)), linear_operator(task, setting)
    constant = torch.rand(SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = LinearPrior(SIZE, prior.mean - constant.flatten(), covariance=prior.covariance)
    y = operator(smooth_pictures(5, seed=1).float() / 255)
    found = Explained(operator, errors).complete(constant.float().expand(5, -1, -1, -1), y)
    torch.testing.assert_close(found, prior.condition(operator)(y), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("task", "setting"), TASKS)
def test_with_a_linear_generator_it_is_the_exact_posterior_mean(task: str, setting: dict[str, float]) -> None:
    """x = b + W z + r: the minimiser of whitened error and |z|^2, and r on it, is E[x | y] of the joint Gaussian."""
    operator, rng = linear_operator(task, setting), torch.Generator().manual_seed(2)
    W, b = 0.05 * torch.randn(n, 5, generator=rng, dtype=torch.float64), torch.full((n,), 0.5, dtype=torch.float64)
    S, m = random_covariance(1e-3, 3), 0.02 * torch.randn(n, generator=rng, dtype=torch.float64)
    x = b + torch.randn(4, 5, generator=rng, dtype=torch.float64) @ W.T + m
    y = operator.A(x.unflatten(1, SIZE).float())
    explained = Explained(operator, LinearPrior(SIZE, m, covariance=S))
    entries, s = int(operator.observed.sum()), explained.known_deviation

    def potential(z: Tensor) -> Tensor:
        picture = (b.float() + z @ W.T.float()).unflatten(1, SIZE)
        return (entries * explained.error(picture, y) / (2 * s**2) + z.square().sum(1) / 2).sum()

    zero = torch.zeros(4, 5)
    hessian = torch.autograd.functional.hessian(potential, zero)
    slope = torch.autograd.functional.jacobian(potential, zero)
    z = torch.stack([-torch.linalg.solve(hessian[i, :, i], slope[i]) for i in range(4)])
    found = explained.complete((b.float() + z @ W.T.float()).unflatten(1, SIZE), y)

    A, C = operator_matrix(operator), W @ W.T + S
    K = A @ C @ A.T + operator.noise_model.sigma**2 * torch.eye(len(A), dtype=torch.float64)
    surprise = y.double().flatten(1)[:, operator.observed.flatten()] - (b + m) @ A.T
    expected = b + m + torch.linalg.solve(K, surprise.T).T @ A @ C
    torch.testing.assert_close(found.double().flatten(1), expected, rtol=0, atol=1e-4)

    gain = C @ A.T @ torch.linalg.inv(K)
    of_z = torch.linalg.inv(hessian[0, :, 0].double())
    completion = (
        torch.eye(n, dtype=torch.float64)
        - S
        @ A.T
        @ torch.linalg.inv(
            A @ S @ A.T + (operator.noise_model.sigma**2 + 1e-12) * torch.eye(len(A), dtype=torch.float64)
        )
        @ A
    )
    variance = (completion @ W @ of_z @ W.T @ completion.T).diagonal() + explained.posterior_variance.flatten()
    torch.testing.assert_close(variance, (C - gain @ A @ C).diagonal(), rtol=0.01, atol=1e-6)


def test_where_errors_are_white_the_error_is_the_operators() -> None:
    operator = linear_operator("inpaint", {"rate": 0.5})
    white = LinearPrior(SIZE, torch.zeros(n, dtype=torch.float64), covariance=0.01 * torch.eye(n, dtype=torch.float64))
    x, truth = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    y, explained = operator(truth), Explained(operator, white)
    torch.testing.assert_close(explained.error(x, y), operator.error(x, y), rtol=1e-4, atol=1e-6)
    assert explained.known_deviation == pytest.approx(2 * 0.1, rel=1e-4)
    assert explained.adjointness_test() < 1e-12


def test_the_shrunk_covariance_is_nearer_than_the_sample_and_becomes_it() -> None:
    axes = LinearPrior.fit(smooth_pictures(600)).axes
    spectrum = torch.logspace(-2, -5, n, dtype=torch.float64)
    C = axes @ torch.diag(spectrum) @ axes.T
    rng = torch.Generator().manual_seed(0)
    for count in (20, 60, 6000):
        draws = torch.randn(count, n, generator=rng, dtype=torch.float64) * spectrum.sqrt() @ axes.T
        errors = (draws + 0.1).unflatten(1, SIZE)
        found = fit_errors(axes, errors)
        assert found.covariance is not None
        torch.testing.assert_close(found.mean, errors.flatten(1).mean(0))
        assert float(torch.linalg.eigvalsh(found.covariance)[0]) > 0
        off = (found.covariance - C).norm() / C.norm()
        of_sample = (torch.cov(errors.flatten(1).T) - C).norm() / C.norm()
        assert off < of_sample
        assert off < {20: 0.6, 60: 0.5, 6000: 0.1}[count]


def test_large_pictures_are_refused() -> None:
    with pytest.raises(UserError, match="valid are at most 3072"):
        fit_errors(torch.eye(4), torch.zeros(2, 3, 64, 64))
