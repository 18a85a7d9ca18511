import pytest
import torch

from mganprior import MGANPrior
from rtil.errors import UserError
from rtil.inverse.latent_space import latent_space_of, start_noise

IDS = ["a", "b", "c", "d"]
SETTINGS = {"codes": 3, "seed": 3}


@pytest.fixture
def earlier(planted):
    return MGANPrior(planted.generator, steps=5, **SETTINGS).invert(planted.x, planted.operator, IDS)


def test_with_no_steps_the_picture_is_the_earlier_one(planted, earlier):
    solver = MGANPrior(planted.generator, steps=0, codes=3, seed=9, alpha_init="dirichlet")
    again = solver.invert(planted.x, planted.operator, start_from=earlier.latents)
    assert torch.equal(again.x, earlier.x)
    assert all(torch.equal(t, earlier.latents[name]) for name, t in again.latents.items())


def test_a_solve_goes_on_where_the_earlier_one_ended(planted, earlier):
    seen = []
    solver = MGANPrior(planted.generator, steps=4, codes=3, seed=9)
    again = solver.invert(
        planted.x, planted.operator, callback=lambda k, step, x: seen.append(x.clone()), start_from=earlier.latents
    )
    assert torch.equal(seen[0], earlier.x)
    assert (again.score <= earlier.score).all()
    assert (again.score < earlier.score).any()


def test_the_rest_is_drawn_as_usual(planted, earlier):
    G, operator, x = planted
    solver = MGANPrior(G, steps=0, codes=3, seed=9)
    usual = solver.invert(x, operator, IDS).latents
    only_alpha = solver.invert(x, operator, IDS, start_from={"alpha": earlier.latents["alpha"]}).latents
    assert torch.equal(only_alpha["alpha"], earlier.latents["alpha"])
    assert torch.equal(only_alpha["v"], usual["v"])
    only_ws = solver.invert(x, operator, IDS, start_from={"ws": earlier.latents["ws"]}).latents
    torch.testing.assert_close(only_ws["ws"], earlier.latents["ws"], rtol=1e-4, atol=1e-5)
    assert torch.equal(only_ws["alpha"], usual["alpha"])
    for i, noise in enumerate(start_noise(G, IDS, 9, 0)):
        assert torch.equal(only_ws[f"noise_{i}"][0], noise)


def test_images_do_not_see_their_mates(planted, earlier):
    G, operator, x = planted
    solver = MGANPrior(G, steps=4, codes=3, seed=9)
    given = {name: earlier.latents[name] for name in ("v", "alpha")}
    alone = solver.invert(x, operator, IDS, start_from=given)
    mixed = {name: t[:, [3, 1, 0, 2]] for name, t in given.items()}
    y = torch.stack([x[3] * 0.5, x[1], x[0], x[2]])
    other = solver.invert(y, operator, ["p", "b", "q", "r"], start_from=mixed)
    assert torch.equal(other.x[1], alone.x[1])
    assert not torch.equal(other.x[0], alone.x[0])


def test_several_attempts(planted):
    G, operator, x = planted
    several = MGANPrior(G, steps=2, restarts=2, combination="mean", **SETTINGS).invert(x, operator)
    again = MGANPrior(G, steps=0, codes=3, combination="mean").invert(x, operator, start_from=several.latents)
    assert torch.equal(again.x, several.x)
    assert torch.equal(again.spread, several.spread)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codes": 2}, "v in start_from has shape"),
        ({"codes": 3, "compose_side": 8}, "become one at cut 1 but here at cut 2"),
    ],
)
def test_what_is_no_start_is_refused(planted, earlier, options, words):
    with pytest.raises(UserError, match=words) as error:
        MGANPrior(planted.generator, steps=0, **options).invert(planted.x, planted.operator, start_from=earlier.latents)
    assert "\n" not in str(error.value)


def test_a_single_code_is_no_start(planted, earlier):
    v = latent_space_of(planted.generator).start("normal", IDS, 0)
    with pytest.raises(UserError, match=r"valid is \[S, 4, 3, "):
        MGANPrior(planted.generator, steps=0, **SETTINGS).invert(planted.x, planted.operator, start_from={"v": v[None]})
