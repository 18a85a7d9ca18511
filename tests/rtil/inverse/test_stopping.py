"""Stopping rules against their definitions, on linear problems and a small generator."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ilo import CSGM, ILO, PULSE, Langevin, SparseDeviation
from ilo.settings import CSGMSettings, SparseSettings
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.latent_space import latent_space_of
from rtil.inverse.loop import Evaluation, Term, optimise
from rtil.inverse.losses import split_heldout
from rtil.inverse.operators import GaussianNoise, Inpainting, make_operator
from rtil.inverse.problem import Problem
from rtil.inverse.schedules import Ramp
from rtil.inverse.stopping import in_folds, noise_error
from rtil.inverse.sure import Twins

SIZE = (3, 16, 16)


def truth(generator: StyleGAN2Generator, count: int = 2) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        x = generator(generator.mapping(generator.draw_z(count, rng)), generator.draw_noise(count, rng))
    return ((x + 1) / 2).clamp(0, 1)


class Iterates:
    """Keeps what a solver shows, by round and step."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], Tensor] = {}

    def __call__(self, number: int, step: int, x: Tensor) -> None:
        self.seen[number, step] = x.clone()


@pytest.mark.parametrize("tau", [1.0, 1.5])
def test_the_discrepancy_stop_of_gradient_descent_is_its_definition(tau: float) -> None:
    rng = np.random.default_rng(0)
    A, sigma = rng.normal(size=(40, 12)), 0.5
    y = rng.normal(size=(3, 12)) @ A.T + sigma * rng.normal(size=(3, 40))
    limit, steps, lr = (tau * sigma) ** 2 * 40, 60, 0.004

    def evaluate(variables: dict[str, Tensor]) -> Evaluation:
        e = (variables["x"] @ torch.tensor(A).T - torch.tensor(y)).square().sum(1)
        return Evaluation(variables["x"], {"measurement": Term(0.5, e)}, e)

    start = {"x": torch.zeros(3, 12, dtype=torch.float64)}
    found = optimise(
        start,
        evaluate,
        steps=steps,
        lr=lr,
        schedule=Ramp(0, 0),
        alive=torch.ones(3, dtype=torch.bool),
        optimizer="sgd",
        enough=limit,
    )
    for n in range(3):
        x, taken = np.zeros(12), 0
        while ((A @ x - y[n]) ** 2).sum() > limit and taken < steps:
            x, taken = x - lr * A.T @ (A @ x - y[n]), taken + 1
        assert 0 < taken < steps
        assert int(found.chosen[n]) == taken
        np.testing.assert_allclose(found.variables["x"][n].numpy(), x, rtol=1e-9)


def test_discrepancy_takes_the_first_iterate_as_near_as_the_noise(generator: StyleGAN2Generator) -> None:
    operator = make_operator("cs", SIZE, rate=0.3, noise_sigma=0.1)
    y = operator(truth(generator))
    assert noise_error(operator) == pytest.approx(float(operator.error(truth(generator), y).mean()), rel=0.2)
    plain = CSGM(generator, steps=40, precision="float32").invert(y, operator)
    limit = float(plain.history["measurement"][:, 20].max())
    iterates, tau = Iterates(), (limit / noise_error(operator)) ** 0.5
    solver = CSGM(generator, CSGMSettings(steps=40, precision="float32", selection="discrepancy", discrepancy_tau=tau))
    found = solver.invert(y, operator, callback=iterates)
    for n in range(2):
        errors = plain.history["measurement"][n]
        (first, *_) = (errors <= limit).nonzero().flatten().tolist()
        assert 0 < first <= 20
        torch.testing.assert_close(found.x[n], iterates.seen[0, first][n], rtol=0, atol=1e-4)
        assert found.history["moving"][n].sum() == first
    assert found.score.max() <= limit * (1 + 1e-4)


def test_where_no_iterate_is_near_enough_the_nearest_is_taken(generator: StyleGAN2Generator) -> None:
    operator = make_operator("cs", SIZE, rate=0.3, noise_sigma=1e-4)
    y = operator(truth(generator))
    found = ILO(generator, steps=(6, 4), selection="discrepancy", precision="float32").invert(y, operator)
    assert torch.equal(found.x, ILO(generator, steps=(6, 4), precision="float32").invert(y, operator).x)


def test_stops_of_cross_fitting_are_those_of_solves_of_half_the_pixels(generator: StyleGAN2Generator) -> None:
    operator = make_operator("inpaint", SIZE, rate=0.4)
    y, steps = operator(torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(1))), 60
    settings = CSGMSettings(steps=steps, geodesic_weight=0, precision="float32", selection="crossfit")
    halves = [weight[0] > 0 for weight in split_heldout(operator, y, 0, 0.5, "crossfit")]
    best = torch.zeros(2, 2)
    for k, (fit, judge) in enumerate((halves, halves[::-1])):
        iterates, half = Iterates(), Inpainting(SIZE, fit)
        last = settings.changed(selection="last")
        CSGM(generator, last).invert(torch.where(half.observed, y, 0), half, callback=iterates)
        pictures = torch.stack([iterates.seen[0, step] for step in range(steps + 1)])
        errors = torch.where(judge, pictures - y, 0).square().sum((2, 3, 4))
        best[k] = errors.argmin(0)
    stops = best.mean(0).round().int().tolist()
    assert all(0 < stop < steps for stop in stops)
    iterates = Iterates()
    CSGM(generator, settings.changed(selection="last")).invert(y, operator, callback=iterates)
    found = CSGM(generator, settings).invert(y, operator)
    expected = torch.stack([iterates.seen[0, stop][n] for n, stop in enumerate(stops)])
    torch.testing.assert_close(found.x, expected, rtol=0, atol=2e-3)
    assert found.history["moving"].sum(1).int().tolist() == stops


@pytest.mark.parametrize("task", ["cs", "inpaint"])
def test_a_fold_is_never_seen_by_what_is_fitted_to_the_other(generator: StyleGAN2Generator, task: str) -> None:
    operator = make_operator(task, SIZE, rate=0.3)
    y = operator(truth(generator)).requires_grad_()
    folds = split_heldout(operator, y, 0, 0.5, "crossfit")
    problem = in_folds(Problem(y, operator, None, latent_space_of(generator), ["a", "b"], 0), folds)
    x = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(1)).repeat(2, 1, 1, 1)
    for place, (fit, judge) in ((0, folds), (3, folds[::-1])):
        n = place % 2
        for error, own, other in (
            (problem.error(x), fit, judge),
            (problem.error(x, heldout=True), judge, fit),
        ):
            (slope,) = torch.autograd.grad(error[place], y, retain_graph=True)
            assert bool((slope[n][own > 0] != 0).any())
            assert bool((slope[n][other > 0] == 0).all())


def test_cross_fitting_and_sure_do_not_depend_on_the_batch(generator: StyleGAN2Generator) -> None:
    operator = make_operator("denoise", SIZE, sigma=25)
    y, ids = operator(truth(generator, 3)), ["a", "b", "c"]
    for selection in ("crossfit", "sure"):
        solver = ILO(generator, steps=(12, 6), selection=selection, precision="float32", restarts=2, combination="mean")
        together = solver.invert(y, operator, ids)
        assert torch.equal(together.latents.render(generator), together.x), "it is rendered again bit for bit"
        alone = ILO(generator, solver.settings).invert(y[2:], operator, ["c"])
        torch.testing.assert_close(alone.x, together.x[2:], rtol=0, atol=1e-3)


def test_sure_selects_the_iterate_of_lowest_estimate(generator: StyleGAN2Generator) -> None:
    operator = make_operator("denoise", SIZE, sigma=50)
    y, iterates = operator(truth(generator)), Iterates()
    solver = PULSE(generator, steps=40, selection="sure", seed=4)
    found = solver.invert(y, operator, ["a", "b"], callback=iterates)
    best = found.history["sure"].argmin(1).tolist()
    for n in range(2):
        assert iterates.seen[0, 0].shape == (2, *SIZE)
        lowest = float(found.history["sure"][n, best[n]])
        if float(found.score[n]) == pytest.approx(lowest, abs=1e-6):
            torch.testing.assert_close(found.x[n], iterates.seen[0, best[n]][n], rtol=0, atol=1e-4)
        else:
            assert float(found.score[n]) < lowest
            torch.testing.assert_close(found.x[n], iterates.seen[0, 40][n], rtol=0, atol=1e-4)


def test_sure_is_the_true_error_of_a_linear_estimator() -> None:
    """Averages of 3 x 3 pixels, a third of the way to the mean: any linear map of y."""
    rng = torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(400, 3, 1, 1, generator=rng).expand(-1, *SIZE)
    x = x + 0.1 * torch.rand(400, *SIZE, generator=rng)
    sigma = 0.1
    y = GaussianNoise(sigma)(x)
    twins = Twins.of(y, sigma, list(map(str, range(400))), 0, 0)
    smooth = torch.nn.functional.avg_pool2d(twins.both, 3, 1, 1, count_include_pad=False)
    found = 0.7 * smooth + 0.3 * twins.both
    estimate = twins.estimate(found)
    assert torch.equal(estimate[:400], estimate[400:])
    true = 4 * (found[:400] - x).square().mean((1, 2, 3))
    deviation = float((estimate[:400] - true).std()) / 400**0.5
    assert abs(float((estimate[:400] - true).mean())) < 3 * deviation
    assert deviation < 0.02 * float(true.mean())


@pytest.mark.parametrize(
    ("selection", "task", "match"),
    [
        ("discrepancy", "cs", "needs noise of a known strength: 'cs 30 %' has none"),
        ("sure", "cs", "'sure' is for denoising: 'cs 30 %'"),
    ],
)
def test_selections_are_refused_where_they_do_not_apply(
    generator: StyleGAN2Generator, selection: str, task: str, match: str
) -> None:
    operator = make_operator(task, SIZE, rate=0.3)
    solver = CSGM(generator, steps=2, selection=selection)
    with pytest.raises(UserError, match=match):
        solver.invert(operator(truth(generator)), operator)
    with pytest.raises(UserError, match=match):
        solver.settings_for(operator)


def test_solvers_without_one_course_of_iterates_refuse(generator: StyleGAN2Generator) -> None:
    with pytest.raises(UserError, match="selection 'crossfit' is not for Langevin: valid are auto, measurement"):
        Langevin(generator, selection="crossfit")
    with pytest.raises(UserError, match="selection 'sure' is not for SparseDeviation"):
        SparseDeviation(generator, SparseSettings(selection="sure"))


def test_tau_is_recorded_where_it_acts() -> None:
    settings = CSGMSettings(discrepancy_tau=1.2)
    assert "discrepancy_tau" not in settings.to_json()
    assert replace(settings, selection="discrepancy").to_json()["discrepancy_tau"] == 1.2


@pytest.mark.parametrize(
    ("solver", "fields", "task", "chosen"),
    [
        (ILO, {"steps": (6, 4)}, "denoise", "sure"),
        (ILO, {"steps": (6, 4), "precision": "bfloat16"}, "denoise", "sure"),
        (ILO, {"steps": (6, 4), "sna_sigma": "known"}, "denoise", "measurement"),
        (ILO, {"steps": (6, 4)}, "cs", "measurement"),
        (CSGM, {"steps": 6}, "denoise", "measurement"),
        (SparseDeviation, {"settings": SparseSettings(steps=2)}, "denoise", "measurement"),
    ],
)
def test_auto_stops_what_would_fit_known_noise(
    generator: StyleGAN2Generator, solver: type[ILO], fields: dict[str, Any], task: str, chosen: str
) -> None:
    level: dict[str, float] = {"sigma": 25} if task == "denoise" else {"rate": 0.3}
    operator = make_operator(task, SIZE, **level)
    y = operator(truth(generator))
    auto = solver(generator, **fields)
    assert auto.settings_for(operator).selection == chosen
    named = solver(generator, **fields, selection=chosen)
    assert auto.settings_for(operator) == named.settings_for(operator)
    assert torch.equal(auto.invert(y, operator).x, named.invert(y, operator).x)
