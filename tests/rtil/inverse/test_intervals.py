"""Intervals against the exact posterior of RTIL's two-layer linear model, and against what they must do."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from docs.theory.linear_model import draw_model, draw_sensing
from rtil.inverse.intervals import LEVELS, coverage, fit_scale, half_width
from rtil.inverse.langevin import Course, run_chain

N0, N1, ND, M, SIGMA, NOISE = 3, 5, 9, 4, 0.7, 0.5
PICTURES = 1500


def gaussian(attempts: int, actual: float = 1.0, pictures: int = 300) -> tuple[Tensor, Tensor, Tensor]:
    """Return means, spreads and truths: attempts are truth-like draws, their deviation off by a factor."""
    rng = torch.Generator().manual_seed(attempts)
    centre = 0.5 + 0.02 * torch.randn(pictures, 3, 8, 8, generator=rng)
    deviation = 0.02 + 0.03 * torch.rand(pictures, 3, 8, 8, generator=rng)
    samples = centre + deviation * torch.randn(attempts, pictures, 3, 8, 8, generator=rng)
    truth = centre + actual * deviation * torch.randn(pictures, 3, 8, 8, generator=rng)
    return samples.mean(0), samples.std(0), truth


@pytest.mark.parametrize("attempts", [2, 3])
def test_coverage_of_the_linear_models_posterior_is_nominal(attempts: int) -> None:
    """Truths and measurements are drawn from the model, chains sample the posterior of each."""
    model = draw_model(N0, N1, ND)
    to_x = torch.cat([model.W1 @ model.W0, SIGMA * model.W1], 1)
    matrix = draw_sensing(M, ND) @ to_x
    rng = torch.Generator().manual_seed(1)

    def draw() -> Tensor:
        return torch.randn(PICTURES, N0 + N1, generator=rng, dtype=torch.float64)

    q = draw()
    y = q @ matrix.T + NOISE * torch.randn(PICTURES, M, generator=rng, dtype=torch.float64)
    course = Course(250, NOISE, 5.0, 0.3, 0.7)
    chains = [
        run_chain(draw(), lambda q: (q @ matrix.T - y).square().sum(1), draw, course, [250]).kept[0]
        for _ in range(attempts)
    ]
    samples, truth = torch.stack(chains) @ to_x.T, q @ to_x.T
    x, spread, truth = (t.view(PICTURES, 1, 1, ND) for t in (samples.mean(0), samples.std(0), truth))
    shares = coverage(x, spread, truth, attempts).mean(0)
    for share, level in zip(shares.tolist(), LEVELS, strict=True):
        assert share == pytest.approx(level, abs=4 * (level * (1 - level) / PICTURES) ** 0.5)
    assert 0.88 < fit_scale(x, spread, truth, attempts) < 1.13


@pytest.mark.parametrize("attempts", [2, 4, 32])
def test_few_attempts_are_allowed_for(attempts: int) -> None:
    shares = coverage(*gaussian(attempts), attempts).mean(0)
    torch.testing.assert_close(shares, torch.tensor(LEVELS, dtype=torch.float64), rtol=0, atol=0.006)


def test_half_widths_are_students() -> None:
    spread = torch.full((1, 1, 1, 1), 0.1)
    expected = stats.t.interval(0.9, 3, scale=0.1 * (1 + 1 / 4) ** 0.5)[1]
    assert float(half_width(spread, 4, 0.9)) == pytest.approx(expected)
    assert float(half_width(spread, 4, 0.9, 2.0)) == pytest.approx(2 * expected)


def test_one_factor_makes_wrong_spreads_right() -> None:
    x, spread, truth = gaussian(16, actual=3.0)
    assert float(coverage(x, spread, truth, 16)[:, 2].mean()) < 0.5
    scale = fit_scale(x[:100], spread[:100], truth[:100], 16)
    assert 2.5 < scale < 3.2
    shares = coverage(x[100:], spread[100:], truth[100:], 16, scale).mean(0)
    torch.testing.assert_close(shares, torch.tensor(LEVELS, dtype=torch.float64), rtol=0, atol=0.02)
    assert fit_scale(x, 2 * spread, truth, 16) == pytest.approx(fit_scale(x, spread, truth, 16) / 2, rel=0.013)


def test_measured_pixels_do_not_count() -> None:
    x, spread, truth = gaussian(4, pictures=2)
    known = torch.zeros_like(x, dtype=torch.bool)
    known[:, :, :4] = True
    with_known = coverage(torch.where(known, truth, x), torch.where(known, 0, spread), truth, 4)
    alone = coverage(x[:, :, 4:], spread[:, :, 4:], truth[:, :, 4:], 4)
    assert torch.equal(with_known, alone)
    assert bool(coverage(truth, torch.zeros_like(x), truth, 4).isnan().all())
    wrong = coverage(truth + 0.1, torch.zeros_like(x), truth, 4)
    assert bool((wrong == 0).all()), "who is sure and wrong does"
