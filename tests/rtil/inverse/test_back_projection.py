"""Back-projection against its properties on every operator, and against dense algebra in float64."""

from pathlib import Path

import pytest
import torch

from ilo import ILO
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.back_projection import back_project, check_back_projection, reported
from rtil.inverse.operators import LinearOperator, Operator, make_operator
from tests.rtil.inverse.operators.test_suite import LINEAR, NONLINEAR, build, dense, images

NOISY = [case for case, (task, _, values) in LINEAR.items() if task == "denoise" or "noise_sigma" in values]
NOISELESS = [case for case in LINEAR if case not in NOISY]


@pytest.mark.parametrize("case", NOISELESS)
def test_without_noise_the_error_never_grows(case: str) -> None:
    operator = build(case).double()
    truth, found = images(operator, seed=2), images(operator, seed=3)
    y = operator.A(truth)
    nearer = back_project(found, y, operator)
    before, after = ((x - truth).square().flatten(1).sum(1) for x in (found, nearer))
    assert bool((after <= before + 1e-9).all())
    assert bool((after < 0.999 * before).all()), "something was observed"
    assert (back_project(truth, y, operator) - truth).abs().max() < 1e-6


@pytest.mark.parametrize("case", ["cs", "cs-odd", "inpaint", "sr", "blur", "gaussian", "mri", "fourier"])
def test_without_noise_and_bounds_it_is_the_projection(case: str) -> None:
    operator = build(case).double()
    truth = 0.5 + 0.01 * images(operator, seed=2)
    found = truth + 0.01 * images(operator, seed=3)
    A = dense(operator)
    moved = ((truth - found).flatten(1) @ A.T @ torch.linalg.pinv(A, rtol=1e-9).T).unflatten(1, operator.img_size)
    assert (back_project(found, operator.A(truth), operator) - found - moved).abs().max() < 1e-6


@pytest.mark.parametrize("case", NOISY)
def test_with_noise_it_is_the_posterior_mean(case: str) -> None:
    operator = build(case).double()
    truth = 0.4 + 0.1 * images(operator, seed=2)
    found = truth + 0.05 * images(operator, seed=3)
    y, sigma = operator(truth), operator.noise_model.sigma
    A, observed = dense(operator), operator.observed.flatten()
    moved = back_project(found, y, operator)
    for n in range(len(y)):
        residual = (y[n] - operator.A(found)[n]).flatten()[observed]
        excess = residual.square().sum() - len(residual) * sigma**2
        t_squared = float(excess.clamp(min=0)) / operator.error_normaliser
        R = A[observed]
        gain = t_squared * R.T @ torch.linalg.inv(t_squared * R @ R.T + sigma**2 * torch.eye(len(R)))
        expected = (found[n].flatten() + gain @ residual).clamp(0, 1)
        assert (moved[n].flatten() - expected).abs().max() < 1e-5


def test_what_fits_within_its_noise_stays() -> None:
    operator = make_operator("denoise", (3, 8, 8), sigma=25)
    truth = images(operator, dtype=torch.float32)
    assert torch.equal(back_project(truth, operator.A(truth), operator), truth)


@pytest.mark.parametrize("case", NONLINEAR)
def test_nonlinear_operators_are_refused(case: str) -> None:
    operator = build(case)
    with pytest.raises(UserError, match="linear"):
        check_back_projection(operator)


def test_colorization_keeps_the_luma_after_it() -> None:
    operator = make_operator("colorize", (3, 8, 8))
    truth, found = images(operator, seed=2).float(), images(operator, seed=3).float()
    y = operator.A(truth)
    assert torch.equal(reported(found, y, operator, True), operator.consistent(back_project(found, y, operator), y))


def measured(operator: Operator) -> torch.Tensor:
    return operator(images(operator, 2, torch.float32), ["a", "b"])


def test_solvers_report_it(cache: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = StyleGAN2Generator(16, {4: 4, 8: 4, 16: 4}, z_dim=8, w_dim=8, mapping_layers=2)
    operator = make_operator("cs", (3, 16, 16), rate=0.3)
    assert isinstance(operator, LinearOperator)
    y = measured(operator)
    plain = ILO(G, steps=(2, 2)).invert(y, operator)
    moved = ILO(G, steps=(2, 2), back_projection=True).invert(y, operator)
    assert torch.equal(moved.x, back_project(plain.x, y, operator))
    assert bool((operator.error(moved.x, y) < 0.5 * operator.error(plain.x, y)).all())
    assert all(torch.equal(moved.latents[name], plain.latents[name]) for name in plain.latents)
    with pytest.raises(UserError, match="linear"):
        ILO(G, steps=(1,), back_projection=True).invert(
            images(operator, 2, torch.float32), make_operator("hdr", (3, 16, 16))
        )
