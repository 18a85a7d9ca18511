import pytest
import torch

from rtil.seeds import generator as seeded
from rtil.training.config import PGGANConfig
from rtil.training.pggan import PGGANTraining
from rtil.training.wgan import drift_penalty, gradient_penalty, wasserstein_estimate


def test_gradient_penalty_of_a_linear_critic():
    """D(x) = <a, x> has gradient a everywhere: the penalty is (|a| - 1)^2 and its gradient 2 (|a| - 1) a / |a|."""
    a = torch.randn(3, 4, 4, dtype=torch.float64, generator=seeded(0, "a")).requires_grad_()
    real, fake = torch.randn(2, 5, 3, 4, 4, dtype=torch.float64, generator=seeded(0, "x"))
    penalty = gradient_penalty(lambda x: (x * a).sum((1, 2, 3)), real, fake, torch.rand(5, dtype=torch.float64))
    norm = a.detach().norm()
    torch.testing.assert_close(penalty, ((norm - 1) ** 2).expand(5))
    (gradient,) = torch.autograd.grad(penalty.mean(), a)
    torch.testing.assert_close(gradient, 2 * (norm - 1) * a.detach() / norm)


def test_gradient_is_taken_between_real_and_fake():
    """D(x) = |x|^2 / 2 has gradient x: at position 0 the real's norm counts, at 1 the fake's, between their mix's."""
    real, fake = torch.full((3, 1, 2, 2), 1.0), torch.full((3, 1, 2, 2), 4.0)
    penalty = gradient_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, real, fake, torch.tensor([0.0, 1.0, 0.5]))
    torch.testing.assert_close(penalty, (torch.tensor([2.0, 8.0, 5.0]) - 1) ** 2)


def test_estimate_and_drift():
    real, fakes = torch.tensor([1.0, 3.0]), [torch.tensor([0.0, 2.0]), torch.tensor([4.0, 4.0])]
    assert wasserstein_estimate(real, fakes, [0.25, 0.75]) == 2 - (0.25 * 1 + 0.75 * 4)
    assert drift_penalty(real) == 5


@pytest.mark.parametrize(
    ("seen", "side", "alpha"), [(0, 4, 1.0), (32, 8, 0.0), (40, 8, 0.5), (48, 8, 1.0), (64, 16, 0.0)]
)
def test_networks_show_the_stage_and_reals_are_its_size(seen, side, alpha):
    stages = {4: 0.032, 8: 0.032, 16: 0.032}
    small = {"channels": {4: 8, 8: 8, 16: 8}, "z_dim": 8, "batches": {4: 8, 8: 8, 16: 8}}
    module = PGGANTraining(PGGANConfig(resolution=16, kimg=0.096, stages=stages, fade_reals=True, **small))
    moment = module.schedule.at(seen)
    module._show(moment)
    assert (module.G.resolution, module.G_ema.resolution) == (side, side)
    assert moment.fade == alpha
    reals = torch.rand(8, 3, 16, 16)
    shrunk = module._shrunk(reals, moment)
    assert shrunk.shape == (8, 3, side, side)
    pooled = reals.unflatten(2, (side, -1)).unflatten(4, (side, -1)).mean((3, 5))
    if alpha == 1:
        torch.testing.assert_close(shrunk, pooled)
    else:  # the mean of a block of four is kept whatever alpha is
        torch.testing.assert_close(torch.nn.functional.avg_pool2d(shrunk, 2), torch.nn.functional.avg_pool2d(pooled, 2))
        assert not torch.allclose(shrunk, pooled)
    assert module.D(shrunk).shape == (8,)
