import pytest
import torch

from rtil.branches import Part
from rtil.training.config import PGGANConfig
from rtil.training.module import Fakes
from rtil.training.pggan import PGGANTraining

SMALL = {"resolution": 16, "channels": {4: 8, 8: 8, 16: 8}, "z_dim": 8, "batches": {4: 8, 8: 8, 16: 8}}


def test_discriminator_loss_is_drift_minus_wasserstein_estimate():
    module = PGGANTraining(PGGANConfig(drift=0.5, **SMALL))
    fakes = [
        Fakes(Part(torch.zeros(2), weight), torch.zeros(()), torch.tensor(scores), torch.zeros(()))
        for weight, scores in ((0.25, [0.0, 2.0]), (0.75, [4.0, 4.0]))
    ]
    estimate = 2 - (0.25 * 1 + 0.75 * 4)
    assert module.discriminator_loss(torch.tensor([1.0, 3.0]), fakes) == 0.5 * 5 - estimate
    assert module.stats["loss/wasserstein"] == estimate


@pytest.mark.parametrize(
    ("seen", "side", "alpha"), [(0, 4, 1.0), (32, 8, 0.0), (40, 8, 0.5), (48, 8, 1.0), (64, 16, 0.0)]
)
def test_networks_show_the_stage_and_reals_are_its_size(seen, side, alpha):
    stages = {4: 0.032, 8: 0.032, 16: 0.032}
    module = PGGANTraining(PGGANConfig(kimg=0.096, stages=stages, fade_reals=True, **SMALL))
    module.seen = seen
    reals = torch.rand(8, 3, 16, 16)
    shrunk = module.begin_step(reals)
    assert (module.G.resolution, module.G_ema.resolution) == (side, side)
    assert module.stats["growing/alpha"] == alpha
    assert shrunk.shape == (8, 3, side, side)
    pooled = reals.unflatten(2, (side, -1)).unflatten(4, (side, -1)).mean((3, 5))
    if alpha == 1:
        torch.testing.assert_close(shrunk, pooled)
    else:  # the mean of a block of four is kept whatever alpha is
        torch.testing.assert_close(torch.nn.functional.avg_pool2d(shrunk, 2), torch.nn.functional.avg_pool2d(pooled, 2))
        assert not torch.allclose(shrunk, pooled)
    assert module.D(shrunk).shape == (8,)
