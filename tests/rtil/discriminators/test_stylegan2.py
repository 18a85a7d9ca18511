import pytest
import torch

from rtil.discriminators import StyleGAN2Discriminator
from rtil.discriminators.stylegan2 import append_group_std, group_of_sample, group_size


def test_parameters_of_rtil_table_1():
    assert sum(p.numel() for p in StyleGAN2Discriminator(256).parameters()) == 7_219_009


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 3), (7, 1), (8, 4), (32, 4)])
def test_group_is_the_largest_divisor_up_to_4(n, expected):
    assert group_size(n) == expected


@pytest.mark.parametrize("n", [6, 8, 12])
def test_only_samples_of_one_group_meet(n):
    """The Jacobian of the scores is block-diagonal over the groups that group_of_sample names."""
    d = StyleGAN2Discriminator(8, {4: 4, 8: 4}).double()
    x = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    jacobian = torch.autograd.functional.jacobian(d, x).flatten(2).abs().sum(2)  # [N N]
    groups = group_of_sample(n)
    assert torch.equal(jacobian > 0, groups[:, None] == groups[None, :])


def test_group_std_by_hand():
    x = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0, 5.0, 0.0, 7.0]).reshape(8, 1, 1, 1)
    std = append_group_std(x)[:, 1, 0, 0]
    torch.testing.assert_close(std[1], torch.tensor([1.0, 3.0, 5.0, 7.0]).std(unbiased=False))
    assert float(std[0]) == pytest.approx(1e-4)
