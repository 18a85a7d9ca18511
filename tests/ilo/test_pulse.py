import pytest
import torch

from ilo.pulse import PULSE
from rtil.errors import UserError
from rtil.generators.pggan import PGGANGenerator
from rtil.inverse.operators import make_operator
from rtil.inverse.schedules import Linear1CycleDrop, Ramp
from rtil.ranges import to_unit


@pytest.fixture(scope="module")
def small_pggan():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PGGANGenerator(16, {4: 12, 8: 12, 16: 8}, z_dim=24)


def pulse_lambda(x, steps):
    """Reference: the branch of PULSE's code, restated."""
    if x < 0.9 * steps:
        return (9 * (1 - abs(2 * (x / (0.9 * steps)) - 1)) + 1) / 10
    return 1 / 10 + (x - 0.9 * steps) / (0.1 * steps) * (1 / 1000 - 1 / 10)


def test_schedule_is_that_of_pulse():
    schedule = Linear1CycleDrop()
    assert [schedule.at(i, 100) for i in range(100)] == pytest.approx([pulse_lambda(i, 100) for i in range(100)])
    assert [schedule.at(i, 100) for i in (0, 45, 90, 99)] == pytest.approx([0.1, 1, 0.1, 0.0109])
    assert sum(schedule.at(i, 37) for i in range(37)) == pytest.approx(sum(pulse_lambda(i, 37) for i in range(37)))


def test_every_iterate_stays_on_its_spheres(planted, monkeypatch):
    seen = []
    original = PULSE._picture

    def watch(self, variables, noise, space):
        seen.append({name: t.detach().clone() for name, t in variables.items()})
        return original(self, variables, noise, space)

    monkeypatch.setattr(PULSE, "_picture", watch)
    PULSE(planted.generator, steps=8, seed=1).invert(planted.x, planted.operator)
    assert list(seen[0]) == ["v", "noise_0", "noise_1", "noise_2", "noise_3"]
    for iterate in seen[1:]:
        assert torch.allclose(iterate["v"].norm(dim=2), seen[0]["v"].norm(dim=2), rtol=1e-5)
        for i in range(4):
            norms = [it[f"noise_{i}"].norm(dim=(2, 3)) for it in (iterate, seen[0])]
            assert torch.allclose(*norms, rtol=1e-5)
    assert len(seen) == 8 + 2
    moved = (seen[-2]["v"] - seen[0]["v"]).norm(dim=2)
    assert (moved > 0.1 * seen[0]["v"].norm(dim=2)).all()


def test_planted_pictures_are_approached(planted):
    result = PULSE(planted.generator, seed=1, geodesic_weight=0).invert(planted.x, planted.operator)
    assert (result.score < 0.1 * result.history["measurement"][:, 0]).all()
    assert result.history["measurement"].shape == (4, 100)
    assert result.status == ["ok"] * 4
    assert torch.equal(result.latents.render(planted.generator), result.x)
    with torch.no_grad():
        raw = to_unit(planted.generator(result.latents["ws"][0], [result.latents[f"noise_{i}"][0] for i in range(5)]))
    assert torch.allclose(result.score, make_operator("inversion", (3, 16, 16)).error(raw, planted.x), rtol=1e-3)


def test_images_do_not_see_their_mates(planted):
    G, operator, x = planted
    ids = ["a", "b", "c", "d"]
    alone = PULSE(G, steps=6, seed=3).invert(x, operator, ids)
    mates = x.clone()
    mates[[0, 2, 3]] = x[[3, 0, 2]] * 0.5
    other = PULSE(G, steps=6, seed=3).invert(mates, operator, ["p", "b", "q", "r"])
    assert torch.equal(other.x[1], alone.x[1])
    assert not torch.equal(other.x[0], alone.x[0])
    single = PULSE(G, steps=6, seed=3, batch_size=1).invert(x, operator, ids)
    assert torch.allclose(single.x, alone.x, atol=1e-3)


def test_converged_is_flagged_per_image_and_every_picture_returned(planted):
    G, operator, x = planted
    y = x.clone()
    y[1] = 40.0
    result = PULSE(G, steps=60, seed=1, eps=0.02).invert(y, operator)
    in_unit = result.history["measurement"].amin(1) / 4
    assert result.latents.converged == (torch.minimum(in_unit, result.score / 4) <= 0.02).tolist()
    assert result.latents.converged == [True, False, True, True]
    assert result.x.isfinite().all()
    strict = PULSE(G, steps=2, seed=1, eps=1e-9).invert(x, operator)
    assert not any(strict.latents.converged)
    kept = PULSE(G, steps=60, seed=1, eps=0.02, restarts=2, combination="mean").invert(y, operator)
    assert not kept.latents.converged[1]
    assert kept.latents["converged"].shape == (2, 4)


def test_clamp_lets_a_converged_image_rest(planted):
    G, operator, x = planted
    settings = {"steps": 12, "seed": 1, "eps": 1e3, "geodesic_weight": 0}
    resting = PULSE(G, **settings, clamp=True, selection="last").invert(x, operator)
    start = PULSE(G, steps=0, seed=1).invert(x, operator)
    assert torch.allclose(resting.x, start.x, atol=1e-5)
    assert torch.allclose(resting.history["loss"], torch.tensor(4e3))
    moving = PULSE(G, **settings, selection="last").invert(x, operator)
    assert not torch.allclose(moving.x, start.x, atol=1e-2)


def test_weight_of_the_published_loss(planted):
    """100 L2 + 0.05 GEOCROSS on pictures in [0, 1] is 25 times the objective."""
    history = PULSE(planted.generator, steps=1, seed=2).invert(planted.x, planted.operator).history
    start = PULSE(planted.generator, steps=0, seed=2).invert(planted.x, planted.operator).latents
    with torch.no_grad():
        noise = [start[f"noise_{i}"][0] for i in range(5)]
        x = to_unit(planted.generator(start["ws"][0], noise))
    rows = start["ws"][0].double()
    a = (rows[:, :, None] - rows[:, None]).square().sum(3).add(1e-9).sqrt()
    b = (rows[:, :, None] + rows[:, None]).square().sum(3).add(1e-9).sqrt()
    geocross = (2 * torch.atan2(a, b)).square().mul(512).mean((1, 2)) / 8
    published = 100 * (x - planted.x).square().flatten(1).mean(1) + 0.05 * geocross
    assert torch.allclose(25 * history["loss"][:, 0].double(), published, rtol=1e-3)


def test_geodesic_draws_the_rows_together(planted):
    def spread(**options):
        heavy = PULSE(planted.generator, steps=20, seed=1, selection="last", geodesic_weight=10.0, **options)
        history = heavy.invert(planted.x, planted.operator).history["geodesic"]
        return history[:, -1] / history[:, 0]

    assert (spread() < 0.5).all()
    assert (spread(geodesic_of="v") < 0.5).all()


def test_noise_kinds(planted):
    def run(noise, steps):
        solver = PULSE(planted.generator, steps=steps, noise=noise, selection="last")
        return solver.invert(planted.x, planted.operator).latents

    start = run("trainable", 0)
    assert start["noise_4"].abs().max() == 0
    assert all(start[f"noise_{i}"].std() > 0.5 for i in range(4))
    moved = run("trainable", 3)
    assert not torch.equal(moved["noise_3"], start["noise_3"])
    assert moved["noise_4"].abs().max() == 0
    assert all(torch.equal(run("fixed", 3)[f"noise_{i}"], start[f"noise_{i}"]) for i in range(5))
    assert all(run("zero", 1)[f"noise_{i}"].abs().max() == 0 for i in range(5))


def test_selection(planted, monkeypatch):
    G, operator, x = planted
    # without the drop at the end, the last iterate is not the best one
    monkeypatch.setattr(PULSE, "schedule", Ramp(0, 0))
    wild = {"steps": 7, "lr": 3.0, "seed": 1}
    last = PULSE(G, **wild, selection="last").invert(x, operator)
    best = PULSE(G, **wild).invert(x, operator)
    trace = torch.cat([best.history["measurement"], last.score[:, None]], 1)
    assert (trace.argmin(1) < 7).any(), "the test needs an iterate that is better than the last"
    assert torch.allclose(best.score, trace.amin(1), rtol=1e-4)
    kept_back = PULSE(G, steps=5, seed=1, selection="heldout").invert(x, operator)
    assert (kept_back.score <= kept_back.history["heldout"].amin(1) * (1 + 1e-4)).all()


def test_on_z_the_sphere_is_that_of_z(small_pggan, planted):
    G = small_pggan
    with torch.no_grad():
        z = G.draw_z(3, torch.Generator().manual_seed(1))
        x = to_unit(G(G.mapping(z), []))
    start = PULSE(G, steps=0, seed=4).invert(x, planted.operator).latents["v"]
    result = PULSE(G, steps=60, seed=4, selection="last").invert(x, planted.operator)
    assert result.latents["v"].shape == (1, 3, 1, 24)
    assert torch.allclose(result.latents["v"].norm(dim=3), start.norm(dim=3), rtol=1e-5)
    assert (result.score < 0.5 * result.history["measurement"][:, 0]).all()


def test_a_diverging_image_leaves_its_mates_alone(planted):
    y = planted.x.clone()
    y[0] = 1e30
    result = PULSE(planted.generator, steps=4).invert(y, planted.operator)
    clean = PULSE(planted.generator, steps=4).invert(planted.x, planted.operator)
    assert result.status == ["diverged", "ok", "ok", "ok"]
    assert torch.equal(result.x[1:], clean.x[1:])
    assert not result.latents.converged[0]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": -1}, "0 or more"),
        ({"lr": 0.0}, "above 0"),
        ({"eps": 0.0}, "eps"),
        ({"geodesic_weight": -1.0}, "geodesic_weight"),
        ({"geodesic_of": "w"}, "ws, v"),
        ({"noise": "free"}, "trainable, fixed, zero"),
        ({"selection": "lst"}, "last"),
    ],
)
def test_wrong_options(small_generator, options, word):
    with pytest.raises(UserError, match=word) as error:
        PULSE(small_generator, **options)
    assert "\n" not in str(error.value)
