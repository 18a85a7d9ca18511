"""Langevin dynamics against the exact posterior of RTIL's two-layer linear model."""

import pytest
import torch
from torch import Tensor

from docs.theory.linear_model import draw_model, draw_sensing
from rtil.inverse.langevin import Course, run_chain

N0, N1, ND, M, SIGMA, NOISE = 3, 5, 9, 4, 0.7, 0.5
CHAINS = 6000


def problem() -> tuple[Tensor, Tensor]:
    """Return the matrix [M, N0 + N1] from (z0, z1 / sigma) to measurements, and a measurement."""
    model = draw_model(N0, N1, ND)
    A = draw_sensing(M, ND)
    matrix = A @ torch.cat([model.W1 @ model.W0, SIGMA * model.W1], 1)
    return matrix, matrix @ torch.randn(N0 + N1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def chains(count: int, course: Course, keep: list[int], seed: int = 0) -> list[Tensor]:
    matrix, y = problem()
    rng = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(count, N0 + N1, generator=rng, dtype=torch.float64)

    found = run_chain(draw(), lambda q: (q @ matrix.T - y).square().sum(1), draw, course, keep)
    assert bool(found.alive.all())
    assert found.errors.shape == (count, course.steps)
    return found.kept


@pytest.mark.parametrize("step", [0.5, 1.2])
def test_mean_and_covariance_are_the_exact_posteriors(step: float) -> None:
    matrix, y = problem()
    covariance = torch.linalg.inv(torch.eye(N0 + N1) + matrix.T @ matrix / NOISE**2)
    mean = covariance @ matrix.T @ y / NOISE**2
    course = Course(300, NOISE, 5.0, 0.3, step)
    (q,) = chains(CHAINS, course, [300])
    deviations = covariance.diagonal().sqrt()
    assert bool(((q.mean(0) - mean).abs() < 4.5 * deviations / CHAINS**0.5).all())
    errors = (torch.cov(q.T) - covariance).abs() / torch.outer(deviations, deviations)
    assert errors.max() < 4.5 * (2 / CHAINS) ** 0.5, "standard error of a variance: its share sqrt(2 / N)"
    assert float(torch.linalg.eigvalsh(covariance)[0]) < 0.1, "y tells much of some directions"


def test_samples_far_enough_apart_are_independent() -> None:
    matrix, _ = problem()
    covariance = torch.linalg.inv(torch.eye(N0 + N1) + matrix.T @ matrix / NOISE**2)
    first, second = chains(2000, Course(400, NOISE, NOISE, 0.0, 0.7), [200, 400])
    centred = [(q - q.mean(0)) / covariance.diagonal().sqrt() for q in (first, second)]
    assert (centred[0] * centred[1]).mean(0).abs().max() < 0.1


def test_an_image_does_not_depend_on_the_others() -> None:
    matrix, y = problem()
    course = Course(30, NOISE, 2.0, 0.5, 0.7)

    def run(seeds: list[int]) -> Tensor:
        sources = [torch.Generator().manual_seed(seed) for seed in seeds]

        def draw() -> Tensor:
            return torch.stack([torch.randn(N0 + N1, generator=rng, dtype=torch.float64) for rng in sources])

        return run_chain(draw(), lambda q: (q @ matrix.T - y).square().sum(1), draw, course, [30]).kept[0]

    torch.testing.assert_close(run([1, 2, 3])[1:2], run([2]), rtol=1e-12, atol=1e-12)


def test_an_image_that_diverges_stays_where_it_was_finite() -> None:
    rng = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(2, 4, generator=rng)

    calls = 0

    def errors(q: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        broken = torch.tensor([1.0, torch.nan if calls > 20 else 1.0])
        return q.square().sum(1) * broken

    found = run_chain(draw(), errors, draw, Course(30, 1.0, 1.0, 0.0, 0.7), [10, 30])
    assert found.alive.tolist() == [True, False]
    assert bool(found.kept[1].isfinite().all())


def test_the_course_falls_and_stays() -> None:
    course = Course(100, 0.1, 1.0, 0.5, 0.7)
    assert [round(course.s(n), 4) for n in (0, 25, 50, 99)] == [1.0, 0.3162, 0.1, 0.1]
    assert Course(100, 0.1, 1.0, 0.0, 0.7).s(0) == pytest.approx(0.1)
