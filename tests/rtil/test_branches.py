import pytest
import torch

from rtil.branches import AdditiveBranches, MixtureBranches, additive_branches, mixture_branches
from rtil.discriminators.stylegan2 import group_of_sample
from rtil.errors import UserError
from rtil.generators import PGGANGenerator, StyleGAN2Generator
from rtil.generators.base import State
from rtil.ops import draw_later, materialise, upsample_bilinear2d
from rtil.seeds import generator as seeded


@pytest.fixture
def g():
    return StyleGAN2Generator(32, {4: 6, 8: 5, 16: 4, 32: 3}, z_dim=8, w_dim=8, mapping_layers=1)


@pytest.mark.parametrize(("num_blocks", "cuts"), [(2, 1), (4, 3), (5, 4), (7, 4)])
def test_cuts_reach_the_fourth_block_at_most(num_blocks, cuts):
    assert additive_branches(True, num_blocks).cuts == cuts
    assert additive_branches(False, num_blocks).weights == (1.0,)


def test_presets_of_the_weights():
    assert additive_branches(True, 4).weights == (0.25,) * 4
    assert additive_branches(True, 4, weights="paper").weights == pytest.approx((0.5, 1 / 6, 1 / 6, 1 / 6))


def test_sampled_keeps_groups_whole_and_is_unbiased():
    branches = AdditiveBranches(3, 1.0, (0.5, 0.3, 0.15, 0.05))
    groups = group_of_sample(32)
    counts = torch.zeros(4)
    for step in range(400):
        (part,) = branches.parts(groups, seeded(0, "b", step))
        assert part.weight == 1
        for group in range(8):
            assert len(part.branch[groups == group].unique()) == 1
        count = torch.bincount(part.branch[:8], minlength=4)
        assert (count - 8 * torch.tensor(branches.weights)).abs().max() < 1  # stratified
        counts += count
    torch.testing.assert_close(counts / counts.sum(), torch.tensor(branches.weights), atol=0.01, rtol=0)


def test_every_group_gets_every_branch_in_time():
    branches = additive_branches(True, 4)
    seen = {
        (i, int(b))
        for s in range(80)
        for i, b in enumerate(branches.parts(torch.arange(4), seeded(0, "b", s))[0].branch)
    }
    assert len(seen) == 16


def test_all_runs_each_branch_with_its_weight():
    branches = AdditiveBranches(2, 1.0, (0.5, 0.5, 0.0), "all")
    parts = branches.parts(group_of_sample(8), seeded(0, "b"))
    assert [(part.branch.tolist(), part.weight) for part in parts] == [([0] * 8, 0.5), ([1] * 8, 0.5)]


def test_z1_is_cumulative_gaussian_and_zero_elsewhere(g):
    branches = AdditiveBranches(3, 2.0, (0.25,) * 4)
    branch = torch.arange(4).repeat(50)
    drawn = branches.draw_z1(g, branch, seeded(0, "z1"))
    for cut in (1, 2, 3):
        z1 = materialise(drawn[cut], (200, *g.cut_shape(cut)), torch.empty(1, 1, 1, 1))
        assert not z1[branch < cut].any()
        assert float(z1[branch >= cut].std()) == pytest.approx(2.0, rel=0.05)
    assert branches.draw_z1(g, torch.zeros(4, dtype=torch.int64), seeded(0, "z1")) == {}


def test_sampled_and_all_agree_in_expectation(g):
    """Mean over many sampled steps of a branch-dependent loss equals the weighted sum."""
    branches = AdditiveBranches(3, 1.0, (0.4, 0.3, 0.2, 0.1))
    loss = torch.tensor([1.0, -2.0, 5.0, 7.0])
    exact = sum(
        w * loss[b].mean()
        for b, w in AdditiveBranches(3, 1.0, branches.weights, "all").parts(torch.arange(8), seeded(0, "a"))
    )
    sampled = torch.stack(
        [loss[branches.parts(torch.arange(8), seeded(0, "s", i))[0].branch].mean() for i in range(800)]
    )
    assert float(sampled.mean()) == pytest.approx(float(exact), abs=4 * float(sampled.std()) / 800**0.5)


@pytest.mark.parametrize(
    ("weights", "sigma", "match"),
    [((0.5, 0.6), 1, "sum to 1"), ((1.5, -0.5), 1, "sum to 1"), ((1.0,), 1, "2 branches"), ((0.5, 0.5), -1, "sigma")],
)
def test_values_out_of_range(weights, sigma, match):
    with pytest.raises(UserError, match=match):
        AdditiveBranches(1, sigma, weights)


def pictures(g, ws, codes, weights, noise, cut):
    """Mixtures, code by code in a loop."""
    rows, out, first = g.advance, [], 0
    for n, count in enumerate(codes):
        maps = [m[n : n + 1] for m in noise]
        states = [rows(None, ws[i : i + 1], maps, 0, cut) for i in range(first, first + count)]
        alpha = weights[n, first : first + count]
        feature = sum(a * s.feature for a, s in zip(alpha, states, strict=True))
        rgb = None if states[0].rgb is None else sum(a * s.rgb for a, s in zip(alpha, states, strict=True))
        tail_ws = sum(a * ws[i : i + 1] for a, i in zip(alpha, range(first, first + count), strict=True))
        out.append(g.tail(State(feature, rgb), tail_ws, maps, cut))
        first += count
    return torch.cat(out)


@pytest.mark.parametrize("side", [4, 8, 32])
@pytest.mark.parametrize("chunk", [3, 1000])
def test_mixtures_equal_the_loop_over_codes_with_gradients(g, side, chunk):
    g = g.double()
    branches = MixtureBranches((1, 3, 5), side, (1 / 3,) * 3, chunk=chunk)
    branch = torch.tensor([0, 2, 1, 1])
    codes = branches.codes_of(branch)
    assert codes.tolist() == [1, 5, 3, 3]
    rng = seeded(0, "mixture")
    ws = g.mapping(torch.randn(12, 8, generator=rng, dtype=torch.float64)).detach().requires_grad_()
    noise = [torch.randn(4, *shape, generator=rng, dtype=torch.float64) for shape in g.noise_shapes()]
    weights = branches.draw_weights(codes, seeded(1, "w")).double()
    ours = branches.generate(g, ws, noise, branch, seeded(1, "w"))
    loop = pictures(g, ws, codes.tolist(), weights, noise, g.last_cut_within(side))
    torch.testing.assert_close(ours, loop, rtol=1e-6, atol=1e-6)
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), [ws, *g.blocks[0].parameters()]),
        torch.autograd.grad(loop.square().sum(), [ws, *g.blocks[0].parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_plain_branch_is_the_plain_generator(g):
    branches = mixture_branches(True, 32)
    ws, noise = g.mapping(torch.randn(2, 8)), g.draw_noise(2, seeded(0, "n"))
    plain = branches.generate(g, ws, noise, torch.zeros(2, dtype=torch.int64), seeded(0, "w"))
    assert torch.equal(plain, g(ws, noise))


@pytest.mark.parametrize("side", [4, 16])
def test_noise_that_is_drawn_in_place_is_the_same_in_head_and_tail_of_mixtures(g, side):
    branches, branch = MixtureBranches((1, 3), side, (0.5, 0.5)), torch.tensor([1, 0, 1])
    ws, rng = g.mapping(torch.randn(7, 8, generator=seeded(0, "z"))), seeded(0, "n")
    drawn = [draw_later(rng) for _ in g.noise_shapes()]
    for layer in g.modules():
        if hasattr(layer, "noise_strength"):
            layer.noise_strength.data.fill_(0.5)
    maps = [
        materialise(noise, (3, *shape), torch.zeros(1)) for noise, shape in zip(drawn, g.noise_shapes(), strict=True)
    ]
    a, b = (branches.generate(g, ws, noise, branch, seeded(1, "w")) for noise in (drawn, maps))
    torch.testing.assert_close(a, b)
    other = branches.generate(g, ws, [draw_later(rng) for _ in drawn], branch, seeded(1, "w"))
    assert (a - other).abs().max() > 0.01


def test_mixture_weights_are_dirichlet():
    """Of Dirichlet(1, ..., 1) with K entries every entry has mean 1/K and variance (K - 1) / (K^2 (K + 1))."""
    codes = torch.tensor([1, 4] * 4000)
    weights = MixtureBranches.draw_weights(codes, seeded(0, "w"))
    torch.testing.assert_close(weights.sum(1), torch.ones(8000))
    of_four = weights[weights > 0].view(-1, 5)[:, 1:]
    assert weights[weights > 0].view(-1, 5)[:, 0].eq(1).all()
    torch.testing.assert_close(of_four.mean(0), torch.full((4,), 0.25), atol=0.01, rtol=0)
    torch.testing.assert_close(of_four.var(0), torch.full((4,), 3 / (16 * 5)), atol=0.004, rtol=0)


def test_presets_of_mixtures():
    assert mixture_branches(True, 256).side == 32
    assert mixture_branches(True, 32).side == 4
    assert mixture_branches(False, 32).codes == (1,)
    assert mixture_branches(True, 32, weights="paper").weights == (0.5, 0.25, 0.25)


def test_chunks_in_bfloat16_with_the_backward_pass_outside_the_context(g):
    """As in training: heads are computed again in the type that they were computed in."""
    ws = g.mapping(torch.randn(12, 8, generator=seeded(0, "z"))).detach().requires_grad_()
    noise = g.draw_noise(4, seeded(0, "n"))
    gradients = []
    for chunk in (5, 1000):
        branches = MixtureBranches((1, 3), 8, (0.5, 0.5), chunk=chunk)
        with g.computing_in(torch.bfloat16):
            x = branches.generate(g, ws, noise, torch.ones(4, dtype=torch.int64), seeded(1, "w"))
        gradients.append(torch.autograd.grad(x.square().sum(), ws)[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_growing_generator_gets_noise_only_where_a_block_is_behind_it(blocks):
    G = PGGANGenerator(16, {4: 4, 8: 4, 16: 4}, z_dim=4)
    G.grow(blocks)
    z1 = additive_branches(True, 3).draw_z1(G, torch.full((2,), 2), seeded(0, "z1"))
    assert sorted(z1) == list(range(1, blocks))


def test_a_fading_generator_mixes_in_both_paths():
    """At fade 0 the picture is that of the block before, of the mixture."""
    G = PGGANGenerator(16, {4: 4, 8: 4, 16: 4}, z_dim=4)
    branches = MixtureBranches((1, 3), 16, (0.5, 0.5))
    ws, branch = G.mapping(torch.randn(6, 4, generator=seeded(0, "z"))), torch.ones(2, dtype=torch.int64)

    def pictures(blocks, fade):
        G.grow(blocks, fade)
        return branches.generate(G, ws, [], branch, seeded(1, "w"))

    coarse, faded = pictures(1, 1.0), pictures(2, 0.0)
    torch.testing.assert_close(faded, upsample_bilinear2d(coarse), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"codes": (1,)}, "mixes nothing"),
        ({"weights": [0.5, 0.5, float("nan")]}, "sum to 1"),
        ({"codes": (2, 3)}, "the first one 1"),
        ({"codes": (1, 0)}, "codes"),
        ({"side": 64}, r"\[4, 8, 16, 32\]"),
        ({"weights": [1.0]}, "3 branches"),
    ],
)
def test_mixtures_out_of_range(changes, match):
    with pytest.raises(UserError, match=match):
        mixture_branches(True, 32, **changes)
