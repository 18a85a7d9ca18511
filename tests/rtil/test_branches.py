import pytest
import torch

from rtil.branches import AdditiveBranches, additive_branches
from rtil.discriminators.stylegan2 import group_of_sample
from rtil.errors import UserError
from rtil.generators import StyleGAN2Generator
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
    z1 = branches.draw_z1(g, branch, seeded(0, "z1"))
    for cut in (1, 2, 3):
        assert z1[cut].shape == (200, *g.cut_shape(cut))
        assert not z1[cut][branch < cut].any()
        assert float(z1[cut][branch >= cut].std()) == pytest.approx(2.0, rel=0.05)
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
