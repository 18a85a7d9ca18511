import math

import pytest
import torch

from ilo import CSGM
from mganprior import MGANPrior
from mganprior.start import start_alpha, start_codes
from rtil.errors import UserError
from rtil.generators.mixing import picture_of_codes
from rtil.inverse.latent_space import latent_space_of, on_sphere, row_norms, start_noise
from rtil.inverse.operators.circulant import PartialCirculant
from rtil.inverse.schedules import Ramp
from rtil.ranges import to_signed, to_unit

SHORT = {"steps": 6, "codes": 3, "seed": 3}
IDS = ["a", "b", "c", "d"]


def solve(planted, **options):
    return MGANPrior(planted.generator, **{**SHORT, **options}).invert(planted.x, planted.operator, IDS)


@pytest.mark.parametrize("side", [4, 8, 16])
def test_planted_pictures_are_recovered(planted, side):
    """The pictures have several codes themselves; nothing of how they were made is told."""
    G = planted.generator
    cut = {4: 1, 8: 2, 16: 3}[side]
    with torch.no_grad():
        ws = latent_space_of(G).ws(start_codes(4, G.num_ws, G.z_dim, IDS, 99, 0).flatten(1, 2)).unflatten(1, (4, -1))
        alpha = start_alpha("dirichlet", 4, G.cut_shape(cut)[0], IDS, 99, 0)
        x = to_unit(picture_of_codes(G, ws, alpha, start_noise(G, IDS, 99, 0), cut))
    solver = MGANPrior(G, steps=120, codes=8, compose_side=side, seed=1)
    result = solver.invert(x, planted.operator)
    assert (result.score < 0.1 * result.history["measurement"][:, 0]).all()
    assert result.history["measurement"].shape == (4, 120)
    assert result.latents["alpha"].shape == (1, 4, 8, G.cut_shape(cut)[0])
    assert result.latents["v"].shape == (1, 4, 8, G.num_ws, G.z_dim)
    assert result.rounds.shape == (1, 4, 3, 16, 16)
    assert result.status == ["ok"] * 4


def test_score_and_picture_are_those_of_the_latents(planted):
    G = planted.generator
    for options in ({}, {"compose_side": 16}, {"restarts": 2, "combination": "mean"}, {"restarts": 3}):
        result = solve(planted, **options)
        assert torch.equal(result.latents.render(G), result.x), options
    latents = {name: t[0] for name, t in solve(planted).latents.items()}
    noise = [latents[f"noise_{i}"] for i in range(len(G.noise_shapes()))]
    with torch.no_grad():
        raw = picture_of_codes(G, latents["ws"], latents["alpha"], noise, int(latents["cut"][0]))
    expected = (raw - to_signed(planted.x)).square().flatten(1).mean(1)
    assert torch.allclose(solve(planted).score, expected, rtol=1e-4)


def test_one_code_of_weight_one_starts_where_csgm_starts(planted):
    start = solve(planted, steps=0, codes=1)
    csgm = CSGM(planted.generator, steps=0, seed=3).invert(planted.x, planted.operator, IDS)
    assert torch.allclose(start.x, csgm.x, atol=1e-5)
    assert torch.equal(start.latents["v"][:, :, 0], csgm.latents["v"])
    assert torch.equal(start.x, start.rounds[0])
    assert start.history == {}


def test_images_do_not_see_their_mates(planted):
    G, operator, x = planted
    alone = solve(planted)
    mates = x.clone()
    mates[[0, 2, 3]] = x[[3, 0, 2]] * 0.5
    other = MGANPrior(G, **SHORT).invert(mates, operator, ["p", "b", "q", "r"])
    assert torch.equal(other.x[1], alone.x[1])
    assert not torch.equal(other.x[0], alone.x[0])
    single = torch.cat([MGANPrior(G, **SHORT).invert(x[i : i + 1], operator, [IDS[i]]).x for i in range(4)])
    assert torch.allclose(single, alone.x, atol=1e-3)
    pairs = solve(planted, batch_size=2)
    assert torch.allclose(pairs.x, alone.x, atol=1e-3)
    assert torch.allclose(pairs.latents.render(G), pairs.x, atol=1e-5)
    chunked = solve(planted, chunk=5)
    assert torch.allclose(chunked.x, alone.x, atol=1e-3)
    assert torch.equal(chunked.latents.render(G, chunk=5), chunked.x)


def test_a_diverging_image_keeps_its_best_iterate_and_its_mates_do_not_notice(planted):
    G, operator, x = planted

    class BreaksLater:
        """NaN for image 2 from call ``when`` on; the others untouched."""

        def __init__(self, when):
            self.when, self.calls = when, 0

        def A(self, x):
            self.calls += 1
            factors = torch.ones(len(x), 1, 1, 1)
            factors[2] = torch.nan if self.calls > self.when else 1
            return x * factors

    clean = MGANPrior(G, **SHORT).invert(x, operator)
    start = MGANPrior(G, **{**SHORT, "steps": 0}).invert(x, operator)
    for when in (0, 6):
        broken = MGANPrior(G, **SHORT).invert(x, BreaksLater(when))
        assert broken.status == ["ok", "ok", "diverged", "ok"]
        assert torch.equal(broken.x[[0, 1, 3]], clean.x[[0, 1, 3]])
        assert broken.x.isfinite().all()
        assert torch.equal(broken.x[2], start.x[2]) == (when == 0)
    y = x.clone()
    y[0] = 1e30
    huge = MGANPrior(G, **SHORT).invert(y, operator)
    assert huge.status == ["diverged", "ok", "ok", "ok"]
    assert torch.equal(huge.x[1:], clean.x[1:])


def by_hand(planted, make_optimiser, steps, K, schedule, lr):
    """Gu et al.'s loop as one would write it, with noise maps held on their spheres."""
    G, _, x = planted
    cut, latents = 1, latent_space_of(G)
    v = start_codes(K, G.num_ws, G.z_dim, IDS, 3, 0).requires_grad_()
    alpha = torch.full((4, K, G.cut_shape(cut)[0]), 1 / K, requires_grad=True)
    noise = [n.requires_grad_(i < 5) for i, n in enumerate(start_noise(G, IDS, 3, 0))]
    norms = [row_norms(n.detach()) for n in noise]
    optimiser = make_optimiser([v, alpha, *noise[:5]])
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * schedule.at(step, steps)
        ws = latents.ws(v.flatten(1, 2)).unflatten(1, (K, -1))
        picture = picture_of_codes(G, ws, alpha, noise, cut)
        loss = (picture - to_signed(x)).square().flatten(1).mean(1).sum()
        variables = optimiser.param_groups[0]["params"]
        for variable, gradient in zip(variables, torch.autograd.grad(loss, variables), strict=True):
            variable.grad = gradient
        optimiser.step()
        with torch.no_grad():
            for n, norm in zip(noise[:5], norms[:5], strict=True):
                n.copy_(on_sphere(n, norm))
    return v.detach(), alpha.detach()


@pytest.mark.parametrize("schedule", [Ramp(0, 0), Ramp()])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_matches_a_loop_written_by_hand(planted, optimizer, schedule):
    make, lr = {
        "adam": (lambda p: torch.optim.Adam(p, eps=1e-12), 0.05),
        "sgd": (lambda p: torch.optim.SGD(p, lr=1), 0.3),
    }[optimizer]
    v, alpha = by_hand(planted, make, 8, 3, schedule, lr)
    result = solve(
        planted,
        steps=8,
        lr=lr,
        optimizer=optimizer,
        rampup=schedule.rampup,
        rampdown=schedule.rampdown,
        selection="last",
    )
    start = start_codes(3, *v.shape[2:], IDS, 3, 0)
    assert torch.allclose(result.latents["v"][0] - start, v - start, rtol=1e-2, atol=1e-4)
    assert torch.allclose(result.latents["alpha"][0], alpha, rtol=1e-2, atol=1e-4)
    assert not torch.allclose(v, start, atol=1e-3)
    assert not torch.allclose(alpha, torch.full_like(alpha, 1 / 3), atol=1e-3)


def test_start_of_the_weights(planted):
    def weights(kind, **options):
        return solve(planted, steps=0, alpha_init=kind, codes=4, **options).latents["alpha"][0]

    C = planted.generator.cut_shape(1)[0]
    assert torch.equal(weights("uniform"), torch.full((4, 4, C), 1 / 4))
    assert torch.equal(weights("channels"), torch.full((4, 4, C), 1 / C))
    assert torch.allclose(weights("dirichlet").sum(1), torch.ones(4, C))
    assert torch.equal(weights("dirichlet"), weights("dirichlet", batch_size=1))
    assert not torch.equal(weights("dirichlet"), weights("dirichlet", seed=4))


def test_what_a_sphere_holds(planted):
    start = solve(planted, steps=0).latents
    free, held = (solve(planted, sphere=sphere, selection="last").latents for sphere in (False, True))
    norms = start["v"].norm(dim=-1)
    assert torch.allclose(held["v"].norm(dim=-1), norms, rtol=1e-5)
    assert not torch.allclose(free["v"].norm(dim=-1), norms, rtol=1e-3)
    for i in range(len(planted.generator.noise_shapes())):
        for outcome in (free, held):
            assert torch.allclose(outcome[f"noise_{i}"].norm(), start[f"noise_{i}"].norm(), rtol=1e-5)


@pytest.mark.parametrize("rule", ["5+2k", "none", "all"])
def test_noise_rule(planted, rule):
    start, end = (solve(planted, steps=steps, noise=rule, selection="last").latents for steps in (0, 3))
    moved = [
        not torch.equal(start[f"noise_{i}"], end[f"noise_{i}"]) for i in range(len(planted.generator.noise_shapes()))
    ]
    assert moved == [rule != "none"] * len(moved)


def test_selection_of_iterates(planted):
    wild = {"steps": 9, "lr": 3.0, "seed": 1}
    last, best = solve(planted, **wild, selection="last"), solve(planted, **wild)
    trace = torch.cat([best.history["measurement"], last.score[:, None]], 1)
    assert (trace.argmin(1) < 9).any(), "the test needs an iterate that is better than the last"
    assert torch.allclose(best.score, trace.min(1).values, rtol=1e-4)
    assert torch.equal(best.history["measurement"], last.history["measurement"])


def test_heldout_entries_judge(planted):
    G, _, x = planted
    operator = PartialCirculant((3, 16, 16), 0.2, seed=1)
    result = MGANPrior(G, **{**SHORT, "steps": 15}, selection="heldout").invert(operator(x), operator)
    assert (result.score <= result.history["heldout"].min(1).values * (1 + 1e-4)).all()
    assert torch.equal(result.history["loss"], result.history["measurement"])
    assert not torch.allclose(result.history["heldout"], result.history["measurement"], rtol=1e-2)


def test_restarts(planted):
    single, best = solve(planted), solve(planted, restarts=3)
    mean = solve(planted, restarts=3, combination="mean")
    assert (best.score <= single.score).all()
    assert (best.score < single.score).any()
    assert mean.latents["alpha"].shape[:2] == (3, 4)
    assert torch.equal(mean.latents["v"][0], single.latents["v"][0])
    assert not torch.equal(mean.latents["v"][1], single.latents["v"][0])


def test_callback_sees_every_iterate(planted):
    seen = []
    solver = MGANPrior(planted.generator, **SHORT, selection="last")
    result = solver.invert(planted.x, planted.operator, callback=lambda k, step, x: seen.append((k, step, x.clone())))
    assert [(k, step) for k, step, _ in seen] == [(0, step) for step in range(7)]
    assert torch.equal(seen[-1][2], result.x)


def test_more_codes_fit_better(planted):
    """Pictures that the generator cannot make from one code."""
    x = planted.x.flip(3) * 0.5 + planted.x.roll(1, 0) * 0.5
    one, many = (MGANPrior(planted.generator, steps=60, codes=K).invert(x, planted.operator).score for K in (1, 8))
    assert (many < 0.8 * one).all()


def test_same_seed_same_result_other_seed_another(planted):
    assert torch.equal(solve(planted, seed=1).x, solve(planted, seed=1).x)
    assert not torch.equal(solve(planted, seed=1).x, solve(planted, seed=2).x)


def test_generator_is_left_as_it_was(planted):
    G = planted.generator
    before = {name: t.clone() for name, t in G.state_dict().items()}
    solve(planted, chunk=2)
    assert all(p.requires_grad and p.grad is None for p in G.parameters())
    assert all(torch.equal(t, before[name]) for name, t in G.state_dict().items())
    assert G.compute_dtype is None


def test_bfloat16_stays_near_float32(planted):
    exact, rough = (solve(planted, steps=40, precision=precision) for precision in ("float32", "bfloat16"))
    assert rough.x.dtype == torch.float32
    assert (rough.score < 1.5 * exact.score + 2e-3).all()
    assert torch.equal(rough.latents.render(planted.generator), rough.x), "the picture is rendered in float32"


def test_side_of_the_composition(generator):
    assert [MGANPrior(generator, compose_side=side).cut for side in (None, 4, 8, 16)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"codes": 0}, "codes is 0"),
        ({"codes": 1.5}, "whole number"),
        ({"chunk": 0}, "chunk is 0"),
        ({"steps": -1}, "0 or more"),
        ({"steps": (3, 4)}, "whole number"),
        ({"lr": 0.0}, "above 0"),
        ({"lr": math.inf}, "above 0"),
        ({"compose_side": 32}, "4, 8, 16 px"),
        ({"compose_side": 5}, "4, 8, 16 px"),
        ({"alpha_init": "dirchlet"}, "did you mean 'dirichlet'"),
        ({"optimizer": "lbfgs"}, "adam, sgd"),
        ({"noise": "next6"}, "did you mean 'next5'"),
        ({"distance": object()}, "there is no perceptual term"),
        ({"perceptual_weight": -1.0}, "above 0"),
        ({"perceptual_weight": math.nan}, "above 0"),
        ({"pair": "paper"}, "call settings.of_checkpoint"),
        ({"pair": "paper", "optimizer": "sgd"}, "pair 'paper' sets optimizer itself"),
        ({"selection": "lst"}, "last"),
        ({"restarts": 0}, "restarts"),
    ],
)
def test_wrong_options(generator, options, word):
    with pytest.raises(UserError, match=word) as error:
        MGANPrior(generator, **options)
    assert "\n" not in str(error.value)


def test_wrong_measurements(planted):
    G, operator, x = planted
    solver = MGANPrior(G, **SHORT)
    with pytest.raises(UserError, match="finite"):
        solver(x * math.nan, operator)
    with pytest.raises(UserError, match="one name"):
        solver.invert(x, operator, ["a", "b", "c", "a"])
