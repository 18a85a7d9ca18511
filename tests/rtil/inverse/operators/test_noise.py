import pytest
import torch

from rtil.errors import UserError
from rtil.inverse.operators import Denoising, GaussianNoise


def test_noise_has_the_asked_deviation():
    y = GaussianNoise(0.2)(torch.zeros(4, 3, 64, 64))
    assert y.std().item() == pytest.approx(0.2, rel=0.02)
    assert abs(y.mean().item()) < 0.01


def test_noise_belongs_to_the_image_id():
    noise, y = GaussianNoise(0.2, seed=1), torch.zeros(3, 1, 4, 4)
    first, second = noise(y, ["a", "b", "c"]), noise(y, ["c", "x", "a"])
    assert torch.equal(first[0], second[2])
    assert torch.equal(first[2], second[0])
    assert not torch.equal(first[1], second[1])
    assert torch.equal(noise(y), noise(y, ["0", "1", "2"]))
    assert not torch.equal(first, GaussianNoise(0.2, seed=2)(y, ["a", "b", "c"]))


def test_every_precision_carries_the_same_noise():
    y = torch.zeros(2, 1, 4, 4)
    torch.testing.assert_close(GaussianNoise(1.0)(y), GaussianNoise(1.0)(y.double()).float())


def test_the_global_generator_is_left_alone():
    state = torch.random.get_rng_state()
    GaussianNoise(1.0)(torch.zeros(2, 3))
    assert torch.equal(state, torch.random.get_rng_state())


def test_denoising_adds_sigma_over_255_and_clips():
    operator = Denoising((3, 32, 32), sigma=51)
    y = operator(torch.full((4, 3, 32, 32), 0.5))
    assert y.min() >= 0
    assert y.max() <= 1
    assert y.std().item() == pytest.approx(0.2 * 0.987, rel=0.02)  # sd of N(0, 1) clipped at 2.5 is 0.987
    assert (Denoising((1, 8, 8), 25)(torch.zeros(1, 1, 8, 8)) == 0).any()


def test_clip_without_noise():
    y = GaussianNoise(0, clip=True)(torch.tensor([[-1.0, 0.5, 2.0]]))
    assert y.tolist() == [[0, 0.5, 1]]


@pytest.mark.parametrize("sigma", [-1, float("nan"), float("inf")])
def test_bad_sigma(sigma):
    with pytest.raises(UserError, match="finite number >= 0"):
        GaussianNoise(sigma)
    with pytest.raises(UserError, match="0-255"):
        Denoising((3, 8, 8), sigma)


def test_wrong_number_of_ids():
    with pytest.raises(UserError, match="got 1 image ids for 2 images"):
        GaussianNoise(0.1)(torch.zeros(2, 3), ["a"])
