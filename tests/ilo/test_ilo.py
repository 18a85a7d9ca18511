import math

import pytest
import torch

from ilo import CSGM, ILO
from rtil.errors import UserError
from rtil.inverse.latent_space import noise_maps
from rtil.inverse.operators import make_operator
from rtil.inverse.operators.circulant import PartialCirculant
from rtil.ranges import to_signed

SHORT = {"steps": (6, 4, 4), "seed": 3}


class FirstAndLast:
    """Keeps the first and the last picture of every round."""

    def __init__(self):
        self.first, self.last, self.count = {}, {}, 0

    def __call__(self, k, step, x):
        self.count += 1
        self.first.setdefault(k, x.clone())
        self.last[k] = x.clone()


@pytest.mark.parametrize("selection", ["measurement", "last", "heldout"])
def test_a_round_starts_with_the_picture_that_the_one_before_ended_with(planted, selection):
    seen = FirstAndLast()
    result = ILO(planted.generator, **SHORT, selection=selection).invert(planted.x, planted.operator, callback=seen)
    for k in (1, 2):
        assert torch.equal(seen.first[k], result.rounds[k - 1])
    assert torch.equal(result.x, result.rounds[-1])
    if selection == "last":
        assert all(torch.equal(seen.last[k], result.rounds[k]) for k in range(3))
    assert seen.count == sum(SHORT["steps"]) + 3
    assert not torch.equal(result.rounds[0], result.rounds[1])


def test_planted_pictures_are_recovered(planted):
    result = ILO(planted.generator, steps=(60, 30, 30), seed=1, geodesic_weight=0).invert(planted.x, planted.operator)
    raw_start = result.history["measurement"][:, 0]
    assert (result.score < 0.03 * raw_start).all()
    assert result.history["measurement"].shape == (4, 120)
    at_rounds_end = result.history["measurement"][:, [59, 89, 119]]
    assert (at_rounds_end[:, 2] < at_rounds_end[:, 0]).all(), "intermediate layers must help beyond the latents"
    assert result.status == ["ok"] * 4


def test_score_is_the_error_of_the_returned_latents(planted):
    result = ILO(planted.generator, **SHORT).invert(planted.x, planted.operator)
    names = [f"noise_{i}" for i in range(5)]
    latents = {name: t[0] for name, t in result.latents.items()}
    with torch.no_grad():
        raw = planted.generator(latents["ws"], [latents[n] for n in names], {k: latents[f"z1_{k}"] for k in (1, 2)})
    expected = (raw - to_signed(planted.x)).square().flatten(1).mean(1)
    assert torch.allclose(result.score, expected, rtol=1e-4)
    assert torch.equal(result.latents.render(planted.generator), result.x)


def test_images_do_not_see_their_mates(planted):
    G, operator, x = planted
    ids = ["a", "b", "c", "d"]
    alone = ILO(G, **SHORT).invert(x, operator, ids)
    mates = x.clone()
    mates[[0, 2, 3]] = x[[3, 0, 2]] * 0.5
    other = ILO(G, **SHORT).invert(mates, operator, ["p", "b", "q", "r"])
    assert torch.equal(other.x[1], alone.x[1])
    assert not torch.equal(other.x[0], alone.x[0])
    single = ILO(G, **SHORT).invert(x[1:2], operator, ["b"])
    assert torch.allclose(single.x[0], alone.x[1], atol=1e-3)
    chunked = ILO(G, **SHORT, batch_size=3).invert(x, operator, ids)
    assert torch.allclose(chunked.x, alone.x, atol=1e-3)
    assert torch.equal(chunked.x[:3], ILO(G, **SHORT).invert(x[:3], operator, ids[:3]).x)


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

    clean = ILO(G, **SHORT).invert(x, operator)
    for when in (0, 3, 9):
        broken = ILO(G, **SHORT).invert(x, BreaksLater(when))
        assert broken.status == ["ok", "ok", "diverged", "ok"]
        assert torch.equal(broken.x[[0, 1, 3]], clean.x[[0, 1, 3]])
        assert broken.x.isfinite().all()
    by_hand = ILO(G, steps=(3,), seed=3).invert(x, BreaksLater(2))
    start = ILO(G, steps=(0,), seed=3).invert(x, operator)
    error = make_operator("inversion", (3, 16, 16)).error
    assert error(by_hand.x, x)[2] <= error(start.x, x)[2] + 1e-6


def test_huge_measurements_diverge_alone(planted):
    y = planted.x.clone()
    y[0] = 1e30
    result = ILO(planted.generator, **SHORT).invert(y, planted.operator)
    assert result.status == ["diverged", "ok", "ok", "ok"]
    clean = ILO(planted.generator, **SHORT).invert(planted.x, planted.operator)
    assert torch.equal(result.x[1:], clean.x[1:])


def test_same_seed_same_result_other_seed_another(planted):
    def run(seed):
        return ILO(planted.generator, steps=(4, 3), seed=seed).invert(planted.x, planted.operator).x

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_generator_is_left_as_it_was(planted):
    G = planted.generator
    G.train()
    frozen_before = next(G.blocks[0].parameters()).requires_grad_(False)
    before = {name: t.clone() for name, t in G.state_dict().items()}
    try:
        ILO(G, steps=(2, 1)).invert(planted.x, planted.operator)
        assert G.training
        assert not frozen_before.requires_grad
        assert all(p.requires_grad for p in G.parameters() if p is not frozen_before)
        assert all(torch.equal(t, before[name]) for name, t in G.state_dict().items())
        assert all(p.grad is None for p in G.parameters())
    finally:
        frozen_before.requires_grad_(True)


def test_zero_steps(planted):
    G, operator, x = planted
    start = ILO(G, steps=(0, 0), seed=5).invert(x, operator)
    assert start.history == {}
    assert start.rounds.shape == (2, 4, 3, 16, 16)
    seen = FirstAndLast()
    skipping = ILO(G, steps=(0, 0, 3), seed=5).invert(x, operator, callback=seen)
    assert torch.equal(seen.first[2], start.x)
    assert list(seen.first) == [2]
    assert torch.equal(skipping.latents.render(G), skipping.x)


def test_csgm_is_the_first_round(planted):
    G, operator, x = planted
    one_round = ILO(G, steps=(10,), seed=2).invert(x, operator)
    assert torch.equal(CSGM(G, steps=10, seed=2)(x, operator), one_round.x)


def test_spheres_hold_the_norms(planted):
    G, operator, x = planted
    start = ILO(G, steps=(0,), seed=4).invert(x, operator).latents
    on = ILO(G, steps=(5, 5, 5), seed=4, selection="last").invert(x, operator).latents
    off = ILO(G, steps=(5, 5, 5), seed=4, selection="last", sphere=False).invert(x, operator).latents
    assert torch.allclose(on["v"].norm(dim=-1), start["v"].norm(dim=-1), rtol=1e-5)
    assert torch.allclose(on["noise_1"].norm(dim=(-2, -1)), start["noise_1"].norm(dim=(-2, -1)), rtol=1e-5)
    assert not torch.allclose(off["v"].norm(dim=-1), start["v"].norm(dim=-1), rtol=1e-3)
    assert not torch.equal(on["v"], start["v"])


def test_start_at_the_mean(planted):
    result = ILO(planted.generator, steps=(8, 2), start="mean", geodesic_weight=0).invert(planted.x, planted.operator)
    assert (result.history["measurement"][:, -1] < result.history["measurement"][:, 0]).all()
    start = ILO(planted.generator, steps=(0,), start="mean").invert(planted.x, planted.operator)
    assert (start.latents["v"] == 0).all()


def test_what_does_not_act_behind_the_cut_does_not_move(planted):
    G, operator, x = planted
    first = ILO(G, steps=(3, 0, 0), seed=6, selection="last").invert(x, operator).latents
    both = ILO(G, steps=(3, 0, 4), seed=6, selection="last", noise="all").invert(x, operator).latents
    assert torch.equal(both["v"][:, :, :3], first["v"][:, :, :3])
    assert not torch.equal(both["v"][:, :, 3:], first["v"][:, :, 3:])
    assert all(torch.equal(both[f"noise_{i}"], first[f"noise_{i}"]) for i in range(3))
    assert not torch.equal(both["noise_3"], first["noise_3"])


def test_rows_behind_a_cut(small_generator):
    """Gradients say the same as the generator."""
    G, rng = small_generator, torch.Generator().manual_seed(0)
    for cut in range(G.num_blocks + 1):
        ws = G.mapping(G.draw_z(1, rng)).detach().requires_grad_()
        noise = G.draw_noise(1, rng)
        state = G.head(ws.detach(), noise, cut) if cut else None
        picture = G.finish(G.advance(state, ws, noise, cut, G.num_blocks), ws)
        (gradient,) = torch.autograd.grad(picture.square().sum(), ws)
        acts = gradient.abs().sum((0, 2)) > 0
        assert acts.nonzero()[0, 0] == G.first_row_behind(cut)
        assert acts[G.first_row_behind(cut) :].all()


def test_noise_rules(small_generator):
    class TenBlocks:
        """Only the noise layout of a 1024 px StyleGAN2."""

        noise_of_block = staticmethod(small_generator.noise_of_block)

        @staticmethod
        def noise_shapes():
            return [(1, 4, 4)] * 17

    def maps(rule):
        return [noise_maps(rule, TenBlocks(), k) for k in range(4)]

    # reference: the table of ILO's code, "noise maps that actually receive gradient"
    assert maps("5+2k") == [[0, 1, 2, 3, 4], list(range(1, 7)), list(range(3, 9)), list(range(5, 11))]
    assert maps("first5") == [[0, 1, 2, 3, 4], [1, 2, 3, 4], [3, 4], []]
    assert maps("next5") == [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [3, 4, 5, 6, 7], [5, 6, 7, 8, 9]]
    assert maps("none") == [[], [], [], []]
    assert maps("all")[3] == list(range(5, 17))


@pytest.mark.parametrize("rule", ["5+2k", "first5", "next5", "none", "all"])
def test_noise_rule_runs(planted, rule):
    result = ILO(planted.generator, steps=(2, 2, 2), noise=rule, selection="last").invert(planted.x, planted.operator)
    start = ILO(planted.generator, steps=(0,), noise=rule).invert(planted.x, planted.operator)
    moved = not torch.equal(result.latents["noise_3"], start.latents["noise_3"])
    assert moved == (rule != "none")


def test_selection_of_iterates(planted):
    G, operator, x = planted
    # so fast that the last iterate is not the best one
    wild = {"steps": (7,), "lr": 3.0, "seed": 1, "sphere": False}
    errors = []

    def watch(k, step, picture):
        errors.append((picture - x).square().flatten(1).mean(1))

    last = ILO(G, **wild, selection="last").invert(x, operator)
    best = ILO(G, **wild).invert(x, operator, callback=watch)
    trace = torch.cat([best.history["measurement"], last.score[:, None]], 1)
    assert (trace.argmin(1) < 7).any(), "the test needs an iterate that is better than the last"
    assert torch.allclose(best.score, trace.min(1).values, rtol=1e-4)
    assert torch.equal(best.history["measurement"], last.history["measurement"])
    assert len(errors) == 8


def test_heldout_entries_are_not_fitted_and_judge(planted):
    G, _, x = planted
    operator = PartialCirculant((3, 16, 16), 0.2, seed=1)
    y = operator(x)
    result = ILO(G, steps=(10, 5), seed=1, selection="heldout").invert(y, operator)
    per_round = result.history["heldout"].split([10, 5], 1)
    assert (result.score <= per_round[1].min(1).values * (1 + 1e-4)).all()
    # the score of the final iterate may be lower still, never higher than any seen
    assert not torch.allclose(result.history["heldout"], result.history["measurement"], rtol=1e-2)


def test_restarts(planted):
    G, operator, x = planted
    single = [ILO(G, steps=(4, 2), seed=7).invert(x, operator)]
    best = ILO(G, steps=(4, 2), seed=7, restarts=3).invert(x, operator)
    mean = ILO(G, steps=(4, 2), seed=7, restarts=3, combination="mean").invert(x, operator)
    assert (best.score <= single[0].score).all()
    assert (best.score < single[0].score).any()
    assert torch.allclose(best.latents.render(G), best.x, atol=1e-6)
    assert mean.latents["ws"].shape[:2] == (3, 4)
    assert torch.allclose(mean.latents.render(G), mean.x, atol=1e-6)


def test_z1_prior_and_normal_start(planted):
    G, operator, x = planted
    free = ILO(G, steps=(3, 10), seed=2, selection="last").invert(x, operator)
    held = ILO(G, steps=(3, 10), seed=2, selection="last", z1_weight=100.0).invert(x, operator)
    assert (held.latents["z1_1"].norm() < 0.5 * free.latents["z1_1"].norm()).all()
    assert (held.history["z1"][:, :4] == 0).all()
    start = ILO(G, steps=(0, 1), lr=1e-9, seed=2, z1_start="normal").invert(x, operator).latents["z1_1"]
    assert start.std().item() == pytest.approx(1, abs=0.1)


def test_history_adds_up(planted):
    history = (
        ILO(planted.generator, **SHORT, geodesic_weight=0.01, z1_weight=0.5).invert(planted.x, planted.operator).history
    )
    total = history["measurement"] + 0.01 * history["geodesic"] + 0.5 * history["z1"]
    assert torch.allclose(history["loss"], total)


def test_bfloat16_stays_near_float32(planted):
    def run(precision):
        return ILO(planted.generator, steps=(30, 10), precision=precision).invert(planted.x, planted.operator)

    exact, rough = run("float32"), run("bfloat16")
    assert rough.x.dtype == torch.float32
    assert planted.generator.compute_dtype is None
    assert (rough.score < 1.5 * exact.score + 1e-3).all()
    assert torch.equal(rough.latents.render(planted.generator), rough.x), "the picture is rendered in float32"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"steps": (1, 1, 1, 1)}, "1 to 3"),
        ({"steps": (1, -1)}, "0 or more"),
        ({"steps": ()}, "steps is empty: valid is one for each round"),
        ({"lr": 0.0}, "above 0"),
        ({"steps": (1, 1), "lr": (0.1, 0.1, 0.1)}, "each of 2"),
        ({"steps": (1,), "noise": "next6"}, "did you mean 'next5'"),
        ({"steps": (1,), "start": "zero"}, "normal, mean"),
        ({"steps": (1,), "z1_start": "one"}, "zero, normal"),
        ({"steps": (1,), "selection": "lst"}, "last"),
        ({"steps": (1,), "precision": "float16"}, "bfloat16"),
        ({"steps": (1,), "restarts": 0}, "restarts"),
        ({"steps": (1,), "batch_size": 0}, "batch_size"),
        ({"steps": (1,), "geodesic_weight": -1.0}, "geodesic"),
    ],
)
def test_wrong_options(small_generator, options, word):
    with pytest.raises(UserError, match=word) as error:
        ILO(small_generator, **{"steps": (1,), **options})
    assert "\n" not in str(error.value)


def test_wrong_measurements(planted):
    G, operator, x = planted
    solver = ILO(G, steps=(1,))
    with pytest.raises(UserError, match="finite"):
        solver(x * math.nan, operator)
    with pytest.raises(UserError, match="finite"):
        solver((x * 255).to(torch.uint8), operator)
    with pytest.raises(UserError, match="one name"):
        solver.invert(x, operator, ["a", "b", "c", "a"])
    with pytest.raises(UserError, match="whole batches"):
        ILO(G, steps=(1,), batch_size=2).invert(x, operator, callback=FirstAndLast())
    other = PartialCirculant((3, 32, 32), 0.1)
    with pytest.raises(UserError, match="32"):
        solver(torch.zeros(1, *other.measurement_shape), other)
