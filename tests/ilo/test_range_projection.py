import pytest
import torch

from ilo import ILO
from ilo.range_projection import project_to_range
from ilo.rounds import Point, enter
from ilo.settings import ILOSettings
from rtil import seeds
from rtil.inverse.latent_space import latent_space_of, start_noise

IDS = ["a", "b", "c", "d"]
ALIVE = torch.ones(4, dtype=torch.bool)


@pytest.fixture
def moved(small_generator):
    """A point at cut 2 whose features are outputs of moved latents, plus small deviations."""
    G = small_generator
    latents = latent_space_of(G)
    v, noise = latents.start("normal", IDS, 0), start_noise(G, IDS, 0, 0)
    away = v + 0.5 * latents.start("normal", IDS, 1)
    there = enter(G, latents, Point(away, noise, {}), 2, None)
    z1 = 0.05 * torch.randn(4, *G.cut_shape(2), generator=seeds.generator(0, "test/z1"))
    return G, latents, Point(v, noise, {2: z1}, 2, there.base)


def project(moved, alive=ALIVE, **options):
    G, latents, point = moved
    settings = ILOSettings(**{"sphere": False, "range_steps": 80, "noise": "all", **options})
    return project_to_range(G, latents, point, settings, alive)


def test_it_lowers_the_distance_to_the_range(moved):
    G, latents, point = moved
    nearest, outcome = project(moved)
    target = point.entered.feature

    def distance(of):
        with torch.no_grad():
            feature = G.head(latents.ws(of.v), of.noise, 2).feature
        return (feature - target).square().flatten(1).sum(1) / target.square().flatten(1).sum(1)

    before, after = distance(Point(point.v, point.noise, {})), distance(nearest)
    assert torch.allclose(outcome.history["range"][:, 0], before, rtol=1e-4)
    assert torch.allclose(outcome.score, after, rtol=1e-4)
    assert (after < 0.2 * before).all()


def test_what_acts_behind_the_cut_stays_and_deviations_end(moved):
    G, _, point = moved
    nearest, _ = project(moved, range_steps=3)
    row, maps = G.first_row_behind(2), G.noise_of_block(2).start
    assert torch.equal(nearest.v[:, row:], point.v[:, row:])
    assert all(torch.equal(a, b) for a, b in zip(nearest.noise[maps:], point.noise[maps:], strict=True))
    assert not torch.equal(nearest.v[:, :row], point.v[:, :row])
    assert not any(torch.equal(a, b) for a, b in zip(nearest.noise[:maps], point.noise[:maps], strict=True))
    assert (nearest.cut, nearest.base, nearest.z1) == (0, None, {})


def test_images_that_were_given_up_stay(moved):
    nearest, outcome = project(moved, range_steps=3, alive=torch.tensor([True, False, True, True]))
    assert torch.equal(nearest.v[1], moved[2].v[1])
    assert outcome.alive.tolist() == [True, False, True, True]


def test_rounds_go_on_from_the_range(planted):
    G, operator, x = planted
    options = {"steps": (8, 5, 6), "seed": 3, "range_steps": 20}
    plain = ILO(G, steps=(8, 5, 6), seed=3).invert(x, operator, IDS)
    seen: dict[int, list[torch.Tensor]] = {}
    result = ILO(G, **options, range_projection=2).invert(
        x, operator, IDS, callback=lambda k, step, picture: seen.setdefault(k, []).append(picture)
    )
    assert result.rounds.shape[0] == 3 + 2 * 2
    assert torch.equal(result.rounds[:3], plain.rounds), "the first pass is what it is without"
    assert torch.equal(result.x, result.rounds[-1])
    assert torch.equal(result.latents.render(G), result.x)
    assert [len(pictures) for _, pictures in sorted(seen.items())] == [9, 6, 7, 6, 7, 6, 7]
    assert torch.equal(seen[4][0], result.rounds[3]), "within a pass each round starts where the one before ended"
    assert not torch.equal(seen[3][0], result.rounds[2]), "a pass starts on the range"
    distances = result.history["range"].split(20, 1)
    assert all((d[:, -1] < d[:, 0]).all() for d in distances)
    assert result.history["measurement"].shape == (4, 19 + 2 * 11)
    assert (result.score < result.history["measurement"][:, 0]).all()


def test_a_batch_is_as_one_at_a_time(planted):
    G, operator, x = planted
    options = {"steps": (6, 5), "seed": 3, "range_steps": 8, "range_projection": 1, "z1_start": "normal"}
    together = ILO(G, **options).invert(x, operator, IDS)
    singles = ILO(G, **options, batch_size=1).invert(x, operator, IDS)
    assert torch.allclose(singles.x, together.x, atol=1e-3)


def test_norms_are_held_there_too(planted):
    G, operator, x = planted
    options = {"steps": (0, 2), "seed": 4, "selection": "last", "lr": 0.3}
    start = ILO(G, steps=(0,), seed=4).invert(x, operator).latents["v"]
    held = ILO(G, **options, range_projection=1).invert(x, operator).latents["v"]
    assert torch.allclose(held.norm(dim=-1), start.norm(dim=-1), rtol=1e-5)
    assert not torch.equal(held[:, :, 0], start[:, :, 0])


def test_the_balls_of_rounds_do_not_hold_it(planted):
    """Algorithm 1 has none there; latents and noise maps stay on their spheres."""
    G, operator, x = planted
    held = {"radius_latent": 0.0, "radius_noise": 0.0, "steps": (2, 2), "lr": 0.3, "seed": 4}
    start = ILO(G, **held).invert(x, operator, IDS).latents
    moved = ILO(G, **held, range_projection=1).invert(x, operator, IDS).latents
    row = G.first_row_behind(1)
    assert torch.equal(moved["v"][:, :, row:], start["v"][:, :, row:]), "rounds cannot move them"
    assert not torch.allclose(moved["v"][:, :, :row], start["v"][:, :, :row], atol=0.05)
    assert torch.allclose(moved["v"].norm(dim=-1), start["v"].norm(dim=-1), rtol=1e-5)
    norms = [of["noise_0"].norm(dim=(-2, -1)) for of in (moved, start)]
    assert not torch.allclose(moved["noise_0"], start["noise_0"], atol=0.05)
    assert torch.allclose(*norms, rtol=1e-5)
    free = ILO(G, **held, range_projection=1, sphere=False).invert(x, operator, IDS).latents
    assert not torch.allclose(free["v"].norm(dim=-1), start["v"].norm(dim=-1), rtol=1e-3)
