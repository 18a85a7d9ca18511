import copy

import pytest
import torch
from torch import nn

from rtil.training.ema import ema_decay, update_ema


def test_half_after_the_halflife():
    decay = ema_decay(batch=32, halflife_kimg=10, images_seen=10**9, rampup=0.05)
    assert decay ** (10_000 / 32) == pytest.approx(0.5)


def test_rampup_shortens_it():
    assert ema_decay(32, 10, 3200, 0.05) == pytest.approx(0.5 ** (32 / 160))


def test_average_of_parameters_and_copy_of_buffers():
    torch.manual_seed(0)
    average, model = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    nn.init.normal_(model.weight)
    model.running_mean.fill_(5)
    before = copy.deepcopy(average.weight.data)
    update_ema(average, model, 0.75)
    torch.testing.assert_close(average.weight.data, 0.75 * before + 0.25 * model.weight.data)
    assert torch.equal(average.running_mean, model.running_mean)
