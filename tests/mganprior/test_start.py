import pytest
import torch

from mganprior.start import start_alpha, start_codes
from rtil.inverse.latent_space import PlainZ, start_noise


def test_constant_weights():
    assert torch.equal(start_alpha("uniform", 4, 3, ["a", "b"], 0, 0), torch.full((2, 4, 3), 1 / 4))
    assert torch.equal(start_alpha("channels", 4, 3, ["a", "b"], 0, 0), torch.full((2, 4, 3), 1 / 3))


def test_dirichlet_weights():
    alpha = start_alpha("dirichlet", 5, 3, [str(i) for i in range(4000)], 0, 0)
    assert torch.allclose(alpha.sum(1), torch.ones(4000, 3), atol=1e-6)
    assert (alpha >= 0).all()
    assert (alpha == alpha[:, :, :1]).all(), "one scalar for all channels"
    # Dirichlet(1) over K = 5: mean 1 / K, variance (K - 1) / (K^2 (K + 1))
    assert torch.allclose(alpha.mean(0), torch.full((5, 3), 0.2), atol=0.01)
    assert alpha.var(0).mean().item() == pytest.approx(4 / 150, rel=0.05)


@pytest.mark.parametrize(
    "draw",
    [
        lambda ids, seed, restart: start_codes(3, 2, 8, ids, seed, restart),
        lambda ids, seed, restart: start_alpha("dirichlet", 3, 2, ids, seed, restart),
    ],
)
def test_draws_belong_to_image_seed_and_restart(draw):
    both = draw(["a", "b"], 0, 0)
    assert torch.equal(draw(["b"], 0, 0)[0], both[1])
    for other in (draw(["b"], 1, 0), draw(["b"], 0, 1), both[:1]):
        assert not torch.equal(other[0], both[1])


def test_fewer_codes_are_the_first_of_many_and_the_first_is_the_start_of_csgm():
    many = start_codes(5, 3, 7, ["a", "b"], 2, 1)
    assert many.shape == (2, 5, 3, 7)
    assert torch.equal(start_codes(2, 3, 7, ["a", "b"], 2, 1), many[:, :2])
    assert torch.equal(PlainZ(3, 7, torch.device("cpu")).start("normal", ["a", "b"], 2, 1), many[:, 0])
    assert len({tuple(code.flatten().tolist()) for code in many.flatten(0, 1)}) == 10
    assert start_codes(20, 8, 64, ["a"], 0, 0).std().item() == pytest.approx(1, abs=0.02)


def test_noise_belongs_to_the_image(generator):
    both, alone = (start_noise(generator, ids, 0, 0) for ids in (["a", "b"], ["b"]))
    assert [tuple(n.shape[1:]) for n in both] == generator.noise_shapes()
    assert all(torch.equal(pair[1], single[0]) for pair, single in zip(both, alone, strict=True))
