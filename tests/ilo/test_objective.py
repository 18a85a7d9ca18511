"""The terms of ILO's objective: the perceptual one with a stand-in, and stochastic noise."""

import pytest
import torch
import torch.nn.functional as F

from ilo import CSGM, ILO
from ilo.objective import Objective, StochasticNoise
from ilo.policies import has_perceptual_term
from ilo.settings import ILOSettings
from rtil import seeds
from rtil.errors import UserError
from rtil.generators.pggan import PGGANGenerator
from rtil.inverse.operators import make_operator
from rtil.inverse.perceptual import is_picture
from rtil.inverse.problem import Problem
from rtil.ranges import to_signed

SIZE = (3, 16, 16)
IDS = ["a", "b", "c", "d"]


class Blurred:
    """Stands for a network: sees neighbours together, and more than differences."""

    def distance(self, x, reference):
        ours, theirs = (F.avg_pool2d(picture, 3, 1, 1).square() for picture in (x, reference))
        return (ours - theirs).square().flatten(1).mean(1)


BLURRED = {"perceptual": "vgg", "distance": Blurred()}


def objective_of(x, **settings):
    problem = Problem(x, make_operator("inversion", SIZE), None, None, IDS, 0)
    return Objective(problem, ILOSettings(**{"geodesic_weight": 0, **settings}))


def test_the_perceptual_term_is_weighed_logged_and_acts(planted):
    G, _, x = planted
    operator = make_operator("inpaint", SIZE, rate=0.6)
    y = operator(x)
    options = {"steps": (20, 10), "seed": 3, "geodesic_weight": 0.01}
    plain = ILO(G, **options).invert(y, operator)
    for mode in ("fill", "mask"):
        term = {**BLURRED, "perceptual_weight": 5.0, "perceptual_mode": mode}
        found = ILO(G, **options, **term).invert(y, operator)
        history = found.history
        total = history["measurement"] + 0.01 * history["geodesic"] + 5 * history["perceptual"]
        assert torch.allclose(history["loss"], total)
        assert torch.equal(history["measurement"][:, 0], plain.history["measurement"][:, 0])
        assert not torch.allclose(found.x, plain.x, atol=1e-3)
        assert (history["perceptual"][:, -1] < history["perceptual"][:, 0]).all()
        seen = torch.cat([history["measurement"][:, 20:], found.score[:, None]], 1)
        assert torch.allclose(found.score, seen.min(1).values, rtol=1e-4), "selection goes by the measurement error"
    start = ILO(G, steps=(0,), seed=3).invert(y, operator).x
    filled = torch.where(operator.observed, y, start)
    first = ILO(G, steps=(1,), seed=3, **BLURRED).invert(y, operator).history["perceptual"][:, 0]
    assert torch.allclose(first, Blurred().distance(filled, start), atol=0.02)


def test_the_perceptual_term_alone(planted):
    G, operator, x = planted
    options = {"steps": 15, "seed": 3, "geodesic_weight": 0.0}
    alone = CSGM(G, **options, **BLURRED, measurement_weight=0.0).invert(x, operator)
    assert torch.equal(alone.history["loss"], alone.history["perceptual"])
    assert alone.history["measurement"].shape == (4, 15)
    without = CSGM(G, **options, measurement_weight=0.0).invert(x, operator)
    assert torch.equal(without.x, CSGM(G, **options)(x, operator)), "the error alone always counts"


@pytest.mark.parametrize(
    ("task", "level", "resolution", "expected"),
    [
        ("cs", {"rate": 0.9}, 16, False),
        ("inpaint", {"rate": 0.5}, 16, True),
        ("inpaint", {"rate": 0.49}, 16, False),
        ("inpaint", {"rate": 0.01}, 16, False),
        ("box", {"rate": 0.75}, 16, True),
        ("sr", {"factor": 8}, 32, True),
        ("sr", {"factor": 16}, 32, False),
        ("sr", {"factor": 32}, 32, False),
        ("denoise", {"sigma": 25.0}, 16, True),
        ("colorize", {}, 16, True),
        ("inversion", {}, 16, True),
    ],
)
def test_the_papers_policy(task, level, resolution, expected):
    operator = make_operator(task, (3, resolution, resolution), **level)
    assert has_perceptual_term("paper", operator) is expected
    assert has_perceptual_term("always", operator)
    G = PGGANGenerator(resolution, {4: 2, 8: 2, 16: 2, 32: 2}, z_dim=2)
    for policy, has_term in (("paper", expected), ("always", is_picture(operator.measurement_shape))):
        for solver in (ILO(G, policy=policy, **BLURRED), CSGM(G, policy=policy, **BLURRED)):
            acting = solver.settings_for(operator)
            assert ("perceptual" in acting.to_json()) == ("policy" in acting.to_json()) == has_term, "as recorded"
            assert type(solver)(G, acting).settings == acting


def test_the_policy_leaves_the_term_out(planted):
    G, _, x = planted
    for task, level in (("cs", {"rate": 0.3}), ("inpaint", {"rate": 0.3})):
        operator = make_operator(task, SIZE, **level)
        y = operator(x)
        by_policy = ILO(G, steps=(3, 2), seed=3, **BLURRED, policy="paper").invert(y, operator)
        assert torch.equal(by_policy.x, ILO(G, steps=(3, 2), seed=3)(y, operator))
        assert "perceptual" not in by_policy.history
    cs = make_operator("cs", SIZE, rate=0.3)
    with pytest.raises(UserError, match="compares pictures"):
        ILO(G, steps=(3, 2), **BLURRED).invert(cs(x), cs)


def test_noise_is_that_of_its_place():
    like = torch.zeros(2, *SIZE)
    first = StochasticNoise(51.0, ["a", "b"], seed=0, restart=0)
    base = first.draw(like, 0, 0)
    assert base.std().item() == pytest.approx(0.2, rel=0.05)
    assert torch.equal(base, first.draw(like, 0, 0))
    assert torch.equal(StochasticNoise(51.0, ["b", "a"], 0, 0).draw(like, 0, 0), base.flip(0))
    others = [
        first.draw(like, 0, 1),
        first.draw(like, 1, 0),
        StochasticNoise(51.0, ["a", "b"], 1, 0).draw(like, 0, 0),
        StochasticNoise(51.0, ["a", "b"], 0, 1).draw(like, 0, 0),
        base.flip(0),
    ]
    assert not any(torch.equal(base, other) for other in others)


def test_noise_leaves_the_expected_gradient_of_the_squared_error(planted):
    x = planted.x
    objective = objective_of(x)
    picture = (to_signed(x) * 0.5).requires_grad_()

    def gradient(noise):
        loss = objective(picture, {}, noise).terms["measurement"].value
        return torch.autograd.grad(loss.sum(), picture)[0]

    noise = StochasticNoise(25.0, IDS, 0, 0)
    mean = torch.stack([gradient(noise.draw(picture, 0, step)) for step in range(400)]).mean(0)
    assert (mean - gradient(None)).std() < 0.1 * gradient(noise.draw(picture, 0, 0)).sub(gradient(None)).std()


def test_stochastic_noise_in_a_run(planted):
    G, _, x = planted
    operator = make_operator("denoise", SIZE, sigma=25.0)
    y = operator(x)
    seen: dict[int, list[torch.Tensor]] = {}
    options = {"steps": (15, 8), "seed": 3, "geodesic_weight": 0.0, "sphere": False}
    result = ILO(G, **options, sna_sigma=25.0, lr=0.5).invert(
        y, operator, IDS, callback=lambda k, step, picture: seen.setdefault(k, []).append(picture)
    )
    history = result.history
    added = 4 * (25 / 255) ** 2
    excess = (history["measurement"] - history["noise_free"]).mean()
    assert excess.item() == pytest.approx(added, rel=0.05), "each step compares with fresh noise"
    assert torch.equal(history["loss"], history["measurement"])
    # the last round's iterates are 8 logged ones and the last: the selected one has the lowest noise-free error
    clean = torch.cat([history["noise_free"][:, 15:], result.score[:, None]], 1)
    assert torch.allclose(result.score, clean.min(1).values, rtol=1e-4)
    picked_by_noise = history["measurement"][:, 15:].argmin(1)
    assert (picked_by_noise != history["noise_free"][:, 15:].argmin(1)).any(), "the test needs them to differ"


def test_stochastic_noise_is_drawn_for_each_image_alone(planted):
    G, operator, x = planted
    options = {"steps": (6, 4), "seed": 3, "sna_sigma": 25.0}
    together = ILO(G, **options).invert(x, operator, IDS)
    singles = ILO(G, **options, batch_size=1).invert(x, operator, IDS)
    assert torch.allclose(singles.x, together.x, atol=1e-3)
    assert torch.allclose(singles.history["measurement"], together.history["measurement"], atol=1e-3)
    assert torch.equal(ILO(G, **options).invert(x, operator, IDS).x, together.x)
    assert not torch.equal(ILO(G, steps=(6, 4), seed=3)(x, operator), together.x)


def test_held_out_entries_judge_without_noise(planted):
    G, operator, x = planted
    result = ILO(G, steps=(6,), seed=3, sna_sigma=60.0, selection="heldout").invert(x, operator, IDS)
    lowest = torch.cat([result.history["heldout"], result.score[:, None]], 1).min(1).values
    assert torch.allclose(result.score, lowest, rtol=1e-4)


def test_a_z1_prior_of_another_width(planted):
    x = planted.x
    z1 = torch.randn(4, 5, 2, 2, generator=seeds.generator(0, "test/z1"))
    terms = objective_of(x, z1_weight=1.0, z1_sigma=0.5)(to_signed(x), {"z1": z1}).terms
    expected = z1.square().flatten(1).sum(1) / (2 * 0.25 * 20)
    assert torch.allclose(terms["z1"].value, expected)


def geocross(rows):
    """Reference: PULSE's formula in float64, over all L x L pairs."""
    a, b = rows.double()[:, :, None], rows.double()[:, None, :]
    minus = ((a - b).square().sum(-1) + 1e-9).sqrt()
    plus = ((a + b).square().sum(-1) + 1e-9).sqrt()
    return (512 * (2 * torch.atan2(minus, plus)).square() / 8).mean((1, 2))


@pytest.mark.parametrize("solver", [ILO, CSGM])
def test_the_geodesic_term_compares_rows_before_or_behind_the_mapping(planted, solver):
    G, operator, x = planted
    some, found = (int if solver is CSGM else lambda count: (count,)), {}
    for rows in ("v", "ws"):
        options = {"steps": some(4), "seed": 3, "geodesic_weight": 0.05, "geodesic_of": rows}
        start = solver(G, **options | {"steps": some(0)}).invert(x, operator, IDS).latents[rows][0]
        found[rows] = solver(G, **options).invert(x, operator, IDS)
        history = found[rows].history
        assert torch.allclose(history["geodesic"][:, 0].double(), geocross(start), rtol=1e-4)
        assert torch.allclose(history["loss"], history["measurement"] + 0.05 * history["geodesic"])
    plain = solver(G, steps=some(4), seed=3, geodesic_weight=0.05).invert(x, operator, IDS)
    assert torch.equal(found["v"].x, plain.x), "the default"
    assert not torch.allclose(found["ws"].x, plain.x, atol=1e-4)
    with pytest.raises(UserError, match="ws, v"):
        solver(G, steps=some(1), geodesic_of="w")


def test_behind_a_cut_the_geodesic_term_compares_what_moves_there(planted):
    G, operator, x = planted
    options = {"seed": 3, "geodesic_weight": 0.05, "geodesic_of": "ws"}
    start = ILO(G, steps=(0,), seed=3).invert(x, operator, IDS).latents["ws"][0]
    history = ILO(G, steps=(0, 0, 1), **options).invert(x, operator, IDS).history
    assert torch.allclose(history["geodesic"][:, 0].double(), geocross(start[:, G.first_row_behind(2) :]), rtol=1e-4)


def test_noise_is_what_randn_draws():
    """So that results are those of earlier versions, on every device."""
    place = 2, 1, 7
    expected = torch.stack(
        [torch.randn(SIZE, generator=seeds.generator(5, "inverse/sna", name, *place)) for name in IDS]
    )
    noise = StochasticNoise(51.0, IDS, seed=5, restart=2)
    assert torch.equal(noise.draw(torch.zeros(4, *SIZE), 1, 7), expected * (51.0 / 255))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_its_noise():
    noise, like = StochasticNoise(51.0, IDS, 5, 0), torch.zeros(4, *SIZE, device="cuda")
    noise.draw(like, 0, 0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn = [noise.draw(like, 0, step) for step in range(3)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for step, on_gpu in enumerate(drawn):
        assert torch.equal(on_gpu.cpu(), noise.draw(torch.zeros(4, *SIZE), 0, step))


def test_the_penalty_on_the_latents_draws_them_to_zero(planted):
    G, operator, x = planted
    v = torch.randn(4, 3, 24)
    term = objective_of(x, v_weight=0.5)(to_signed(x), {"v": v}).terms["v"]
    assert term.weight == 0.5
    assert torch.allclose(
        term.value, -torch.distributions.Normal(0, 1).log_prob(v).flatten(1).mean(1) - 0.9189385, atol=1e-5
    )
    free, held = (
        CSGM(G, steps=30, sphere=False, v_weight=weight, seed=1).invert(x, operator).latents["v"].norm()
        for weight in (0.0, 1.0)
    )
    assert held < 0.9 * free
    assert "v_weight" not in ILOSettings().to_json(), "rows of before keep their hash"
