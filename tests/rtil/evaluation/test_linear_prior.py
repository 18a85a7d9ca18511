import pytest
import torch

from rtil.errors import UserError
from rtil.evaluation import linear_prior
from rtil.evaluation.linear_prior import LinearPrior
from rtil.inverse.operators.registry import make_operator
from rtil.ranges import to_uint8
from rtil.seeds import generator

SIZE = (3, 8, 8)
n = 192


def smooth_pictures(N, size=8, seed=0):
    """Low-dimensional pictures plus a little noise, as bytes."""
    rng = generator(seed, "test")
    coarse = torch.randn(N, 3, 3, 3, generator=rng) * 0.15 + 0.5
    fine = torch.randn(N, 3, size, size, generator=rng) * 0.01
    return to_uint8(torch.nn.functional.interpolate(coarse, size=size, mode="bilinear") + fine)


def operator_matrix(operator):
    eye = torch.eye(n, dtype=torch.float64).unflatten(1, SIZE)
    return operator.A(eye).flatten(1).T[operator.observed.flatten()]


TASKS = [("cs", {"rate": 0.1}), ("inpaint", {"rate": 0.3}), ("sr", {"factor": 4}), ("blur", {"width": 0.7})]
TASKS += [("gaussian", {"rate": 0.2}), ("mri", {"rate": 0.4})]
TASKS = [(task, {**setting, "noise_sigma": 0.02}) for task, setting in TASKS] + [("denoise", {"sigma": 25})]


@pytest.mark.parametrize(("task", "setting"), TASKS)
def test_equals_gaussian_conditioning_written_with_precision_matrices(task, setting):
    images = smooth_pictures(600)
    prior = LinearPrior.fit(images)
    operator = make_operator(task, SIZE, seed=1, **setting)
    sigma = operator.noise_model.sigma
    truth = smooth_pictures(4, seed=1).float() / 255
    y = operator(truth, ["a", "b", "c", "d"])
    got = prior.condition(operator)(y)
    X = images.flatten(1).double() / 255
    A, mu = operator_matrix(operator), X.mean(0)
    precision = torch.linalg.inv(torch.cov(X.T))
    observed = y.double().flatten(1)[:, operator.observed.flatten()]
    information = precision + A.T @ A / sigma**2
    expected = torch.linalg.solve(information, precision @ mu[:, None] + A.T @ observed.T / sigma**2).T
    torch.testing.assert_close(got.double().flatten(1), expected, atol=2e-5, rtol=0)


def test_mean_and_covariance_equal_torchs():
    images = smooth_pictures(300)
    prior = LinearPrior.fit(images)
    X = images.flatten(1).double() / 255
    torch.testing.assert_close(prior.mean, X.mean(0))
    torch.testing.assert_close(prior.covariance, torch.cov(X.T))


def test_full_noiseless_observation_is_recovered():
    truth = smooth_pictures(3, seed=1).float() / 255
    operator = make_operator("inversion", SIZE)
    x = LinearPrior.fit(smooth_pictures(600)).condition(operator)(truth)
    torch.testing.assert_close(x, truth, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("task", "setting"), [("inpaint", {"rate": 0.3}), ("cs", {"rate": 0.4})])
def test_noiseless_measurements_are_met_and_the_rest_beats_the_mean(task, setting):
    prior = LinearPrior.fit(smooth_pictures(600))
    operator = make_operator(task, SIZE, seed=2, **setting)
    truth = smooth_pictures(8, seed=1).float() / 255
    x = prior.condition(operator)(operator(truth))
    torch.testing.assert_close(operator.A(x), operator.A(truth), atol=2e-4, rtol=0)
    unexplained = (x - truth).square().mean() / (prior.mean.unflatten(0, SIZE) - truth).square().mean()
    assert unexplained < 0.1


def test_condition_serves_many_batches_and_clamps_nothing():
    prior = LinearPrior.fit(smooth_pictures(600))
    operator = make_operator("cs", SIZE, rate=0.2, seed=0)
    y = operator(smooth_pictures(4, seed=1).float() / 255) * 4
    posterior_mean = prior.condition(operator)
    torch.testing.assert_close(torch.cat([posterior_mean(y[:1]), posterior_mean(y[1:])]), posterior_mean(y))
    assert posterior_mean(y).max() > 1


def test_fewer_pictures_than_unknowns_still_solve():
    prior = LinearPrior.fit(smooth_pictures(20))
    operator = make_operator("inpaint", SIZE, rate=0.9, seed=0)
    assert prior.condition(operator)(operator(smooth_pictures(2).float() / 255)).isfinite().all()
    same = LinearPrior.fit(smooth_pictures(1).expand(5, -1, -1, -1))
    torch.testing.assert_close(same.condition(operator)(torch.zeros(1, *SIZE))[0], smooth_pictures(1)[0] / 255)


@pytest.mark.parametrize(("task", "setting"), TASKS)
def test_principal_components_agree_with_the_full_gaussian(task, setting, monkeypatch):
    images = smooth_pictures(600)
    full = LinearPrior.fit(images)
    monkeypatch.setattr(linear_prior, "FULL_UNKNOWNS", 100)
    monkeypatch.setattr(linear_prior, "MOST_COMPONENTS", 27)
    leading = LinearPrior.fit(images)
    values = torch.linalg.eigvalsh(full.covariance).flip(0)
    torch.testing.assert_close(leading.variances, values[:27], rtol=1e-4, atol=0)
    assert leading.residual == pytest.approx(values[27:].mean().item(), rel=1e-3)
    torch.testing.assert_close(leading.components.T @ leading.components, torch.eye(27), atol=1e-5, rtol=0)
    operator = make_operator(task, SIZE, seed=1, **setting)
    y = operator(smooth_pictures(4, seed=1).float() / 255)
    # The components left out have standard deviation 0.01.
    difference = leading.condition(operator)(y) - full.condition(operator)(y)
    assert difference.square().mean().sqrt() < 0.011


def test_mistakes_are_named():
    prior = LinearPrior.fit(smooth_pictures(10))
    with pytest.raises(UserError, match="'phase 2 masks' is nonlinear: the linear prior is for linear operators only"):
        prior.condition(make_operator("phase", (3, 8, 8), exposures=2))
    with pytest.raises(UserError, match=r"\(3, 8, 8\) but the operator measures \(3, 16, 16\)"):
        prior.condition(make_operator("inversion", (3, 16, 16)))
    with pytest.raises(UserError, match=r"torch.float32 \[2, 3, 8, 8\]"):
        LinearPrior.fit(torch.zeros(2, *SIZE))
