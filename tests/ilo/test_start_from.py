import pytest
import torch

from ilo import CSGM, ILO
from ilo.pulse import PULSE
from ilo.settings import ILOSettings
from ilo.sparse import SparseDeviation
from rtil.errors import UserError
from rtil.inverse.operators import make_operator
from rtil.ranges import to_unit

IDS = ["a", "b", "c", "d"]
ROUNDS = {"steps": (6, 4, 4), "seed": 3}


@pytest.fixture
def earlier(planted):
    """An inversion with deviations at both cuts."""
    found = ILO(planted.generator, **ROUNDS).invert(planted.x, planted.operator, IDS)
    assert all(found.latents[f"z1_{k}"].abs().amax() > 0 for k in (1, 2))
    return found


class First:
    """Keeps the first picture of every round."""

    def __init__(self):
        self.of_round = {}

    def __call__(self, k, step, x):
        self.of_round.setdefault(k, x.clone())


@pytest.mark.parametrize("solver", [ILO, CSGM])
@pytest.mark.parametrize("options", [{}, {"start": "mean"}, {"selection": "heldout"}])
def test_with_no_steps_the_picture_is_the_earlier_one(planted, earlier, solver, options):
    for steps in [0] if solver is CSGM else [(0,), (0, 0, 0)]:
        again = solver(planted.generator, steps=steps, seed=9, **options).invert(
            planted.x, planted.operator, start_from=earlier.latents
        )
        assert torch.equal(again.x, earlier.x)
        assert again.latents.keys() == earlier.latents.keys()
        assert all(torch.equal(t, earlier.latents[name]) for name, t in again.latents.items())
    chunked = solver(planted.generator, steps=steps, batch_size=3, **options)
    again = chunked.invert(planted.x, planted.operator, start_from=earlier.latents)
    assert torch.allclose(again.x, earlier.x, atol=1e-5)


def test_it_holds_for_the_other_solvers(planted):
    G, operator, x = planted
    pulse = PULSE(G, steps=5, seed=1).invert(x, operator)
    again = PULSE(G, steps=0, seed=2, noise="zero").invert(x, operator, start_from=pulse.latents)
    assert torch.equal(again.x, pulse.x)
    assert again.latents.converged == (pulse.score / 4 <= 2e-3).tolist()
    by_csgm = CSGM(G, steps=0).invert(x, operator, start_from=pulse.latents)
    assert torch.equal(by_csgm.x, pulse.x)
    deviating = ILO(G, steps=(1, 1)).invert(x, operator).latents
    with pytest.raises(UserError, match="'z1_1': valid are v, ws, noise_0"):
        PULSE(G, steps=0).invert(x, operator, start_from=deviating)


@pytest.mark.parametrize("steps", [(3, 3, 3), (0, 0, 3), (0, 3), (3,), (0, 3, 0)])
@pytest.mark.parametrize("options", [{}, {"z1_start": "normal"}, {"radius_noise": 0.5, "radius_feature": 1.0}])
def test_every_solve_begins_with_the_earlier_picture_and_ends_no_worse(planted, earlier, steps, options):
    seen = First()
    again = ILO(planted.generator, steps=steps, seed=9, **options).invert(
        planted.x, planted.operator, callback=seen, start_from=earlier.latents
    )
    assert torch.equal(seen.of_round[min(seen.of_round)], earlier.x)
    assert (again.score <= earlier.score).all()
    assert (again.score < earlier.score).any()
    assert torch.equal(again.latents.render(planted.generator), again.x)


def test_a_solve_can_be_cut_into_two(planted):
    """Rounds behind the first, as a solve of their own, are those of the whole."""
    G, operator, x = planted
    whole = ILO(G, **ROUNDS).invert(x, operator, IDS)
    first = ILO(G, steps=(6,), seed=3).invert(x, operator, IDS)
    rest = ILO(G, steps=(0, 4, 4), seed=3).invert(x, operator, IDS, start_from=first.latents)
    assert torch.equal(rest.x, whole.x)


def test_the_last_cut_alone(planted, earlier):
    again = ILO(planted.generator, steps=(0, 0, 5), seed=9, noise="all", selection="last").invert(
        planted.x, planted.operator, start_from=earlier.latents
    )
    before = earlier.latents
    row, noise = planted.generator.first_row_behind(2), planted.generator.noise_of_block(2).start
    kept = ["z1_1", *(f"noise_{i}" for i in range(noise))]
    assert all(torch.equal(again.latents[name], before[name]) for name in kept)
    assert torch.equal(again.latents["v"][:, :, :row], before["v"][:, :, :row])
    for name in ("z1_2", "v", f"noise_{noise}"):
        assert not torch.equal(again.latents[name], before[name])


def test_balls_and_spheres_are_around_the_given(planted, earlier):
    options = {"seed": 9, "selection": "last", "noise": "all"}
    balls = ILO(planted.generator, steps=(0, 8), radius_feature=2.0, radius_latent=3.0, radius_noise=1.0, **options)
    held = balls.invert(planted.x, planted.operator, start_from=earlier.latents).latents

    def moved(name):
        return (held[name] - earlier.latents[name])[0].flatten(1).abs().sum(1)

    for name, radius in (("z1_1", 2.0), ("v", 3.0), ("noise_1", 1.0)):
        assert torch.allclose(moved(name), torch.tensor(radius), rtol=1e-3), "the ball binds"
    spheres = ILO(planted.generator, steps=(8,), **options)
    norms = spheres.invert(planted.x, planted.operator, start_from=earlier.latents).latents["v"].norm(dim=-1)
    assert torch.allclose(norms, earlier.latents["v"].norm(dim=-1), rtol=1e-5)


def test_the_rest_is_drawn_as_usual(planted, earlier):
    G, operator, x = planted
    usual = ILO(G, steps=(0,), seed=9).invert(x, operator, IDS).latents
    v = earlier.latents["v"]
    only_v = ILO(G, steps=(0,), seed=9).invert(x, operator, IDS, start_from={"v": v}).latents
    assert torch.equal(only_v["v"], v)
    assert all(torch.equal(only_v[f"noise_{i}"], usual[f"noise_{i}"]) for i in range(5))
    noise = {"noise_2": earlier.latents["noise_2"]}
    only_noise = ILO(G, steps=(0,), seed=9).invert(x, operator, IDS, start_from=noise).latents
    assert torch.equal(only_noise["noise_2"], noise["noise_2"])
    assert all(torch.equal(only_noise[n], usual[n]) for n in ("v", "noise_0", "noise_1", "noise_3", "noise_4"))
    drawn = ILO(G, steps=(0, 1), lr=1e-9, seed=9, z1_start="normal").invert(x, operator, IDS, start_from={"v": v})
    assert 0.9 < drawn.latents["z1_1"].std() < 1.1


def test_codes_of_an_encoder(planted, earlier):
    ws = earlier.latents["ws"]
    found = CSGM(planted.generator, steps=0, seed=3).invert(planted.x, planted.operator, IDS, start_from={"ws": ws})
    torch.testing.assert_close(found.latents["ws"], ws, rtol=1e-4, atol=1e-5)
    noise = [found.latents[f"noise_{i}"][0] for i in range(5)]
    with torch.no_grad():
        expected = to_unit(planted.generator(ws[0], noise)).clamp(0, 1)
    torch.testing.assert_close(found.x, expected, atol=1e-4, rtol=0)


def test_images_do_not_see_their_mates(planted, earlier):
    G, operator, x = planted
    settings = {"steps": (3, 0, 3), "seed": 9, "z1_start": "normal"}
    given = {name: earlier.latents[name] for name in ("v", "z1_1", "noise_3")}
    alone = ILO(G, **settings).invert(x, operator, IDS, start_from=given)
    others = {name: t[:, [3, 1, 0, 2]] for name, t in given.items()}
    own = {
        name: torch.cat([o[:, :1], t[:, 1:2], o[:, 2:]], 1)
        for (name, t), o in zip(given.items(), others.values(), strict=True)
    }
    y = torch.stack([x[3] * 0.5, x[1], x[0] * 0.5, x[2] * 0.5])
    other = ILO(G, **settings).invert(y, operator, ["p", "b", "r", "s"], start_from=own)
    assert torch.equal(other.x[1], alone.x[1])
    assert not torch.equal(other.x[0], alone.x[0])
    chunked = ILO(G, **settings, batch_size=3).invert(x, operator, IDS, start_from=given)
    assert torch.allclose(chunked.x, alone.x, atol=1e-3)
    assert torch.equal(chunked.x[:3], ILO(G, **settings).invert(
        x[:3], operator, IDS[:3], start_from={name: t[:, :3] for name, t in given.items()}
    ).x)  # fmt: skip


@pytest.mark.parametrize("combination", ["best", "mean"])
def test_an_attempt_from_each_of_several(planted, combination):
    G, operator, x = planted
    several = ILO(G, steps=(3, 2), seed=7, restarts=3, combination="mean").invert(x, operator)
    options = {"seed": 7, "combination": combination}
    again = ILO(G, steps=(0,), **options).invert(x, operator, start_from=several.latents)
    singles = [
        ILO(G, steps=(0,), seed=7).invert(x, operator, start_from={n: t[[s]] for n, t in several.latents.items()})
        for s in range(3)
    ]
    if combination == "mean":
        assert torch.equal(again.x, several.x)
        assert torch.equal(again.spread, several.spread)
    else:
        scores = torch.stack([single.score for single in singles])
        assert torch.equal(again.score, scores.amin(0))
    one = ILO(G, steps=(0,), restarts=5, **options).invert(x, operator, start_from=singles[0].latents)
    assert one.latents["v"].shape[0] == 1, "further attempts from the same place would be the same"
    assert torch.equal(one.x, singles[0].x)


def test_projection_to_the_range_keeps_what_is_behind_the_cut(planted, earlier):
    options = {"seed": 9, "selection": "last", "range_projection": 1, "range_steps": 10}
    again = ILO(planted.generator, steps=(0, 3), **options).invert(
        planted.x, planted.operator, start_from=earlier.latents
    )
    assert torch.equal(again.latents["z1_2"], earlier.latents["z1_2"])
    assert torch.equal(again.latents.render(planted.generator), again.x)
    distance = again.history["range"]
    assert (distance[:, -1] < distance[:, 0]).all()


def test_a_deviation_on_its_sphere_goes_on_there(planted, earlier):
    G, operator, x = planted
    settings = {"seed": 3, "z1_start": "normal", "z1_sphere": True}
    on_sphere = ILO(G, steps=(2, 3), **settings).invert(x, operator)
    again = ILO(G, steps=(0, 3), **settings).invert(x, operator, start_from=on_sphere.latents)
    norms = [found.latents["z1_1"].flatten(2).norm(dim=2) for found in (on_sphere, again)]
    torch.testing.assert_close(*norms)
    assert (again.score <= on_sphere.score).all()
    with pytest.raises(UserError, match=r"z1_1 in start_from has .* times the norm at which z1_sphere holds it"):
        ILO(G, steps=(0, 3), **settings).invert(x, operator, start_from=earlier.latents)
    ILO(G, steps=(3, 0), **settings).invert(x, operator, start_from=earlier.latents)


def test_a_picture_that_hardly_changed(planted, earlier):
    G, operator, x = planted
    frame = (x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    settings = {"steps": (3, 3, 3), "seed": 9}
    cold = ILO(G, **settings).invert(frame, operator)
    warm = ILO(G, **settings).invert(frame, operator, start_from=earlier.latents)
    assert (warm.score < 0.8 * cold.score).all()


def test_sparse_deviations_go_on(planted):
    G, _, x = planted
    operator = make_operator("inversion", (3, 16, 16))
    before, still = ILOSettings(steps=(4, 3)), ILOSettings(steps=(0,))
    moving = SparseDeviation(G, before=before, radius=12.0, alternations=1, steps=3, sparse_steps=20, seed=1)
    found = moving.invert(x, operator)
    resting = SparseDeviation(G, before=still, radius=12.0, alternations=0, sparse_steps=1)
    again = resting.invert(x, operator, start_from=found.latents)
    assert torch.equal(again.latents["z1_1"], found.latents["z1_1"])
    assert (again.score <= found.score * (1 + 1e-5)).all()
    smaller = SparseDeviation(G, before=still, radius=2.0, alternations=0, sparse_steps=1)
    held = smaller.invert(x, operator, start_from=found.latents).latents["nu"]
    assert (held.flatten(2).abs().sum(2) <= 2 * 1.0001).all()
    with pytest.raises(UserError, match=r"nu in start_from has shape .* \[S, 4, 3, 16, 16\]"):
        resting.invert(x, operator, start_from={"nu": torch.zeros(1, 4, 1, 16, 16)})
    assert (operator.error(again.x, x) < 1).all()


def test_what_is_no_start_is_refused(planted, earlier):
    with pytest.raises(
        UserError, match=r"v in start_from has shape \[1, 4, 5, 24\]: valid is \[S, 2, 6, 24\]"
    ) as error:
        ILO(planted.generator, steps=(1,)).invert(
            planted.x[:2], planted.operator, start_from={"v": earlier.latents["v"][:, :, :5]}
        )
    assert "\n" not in str(error.value)
