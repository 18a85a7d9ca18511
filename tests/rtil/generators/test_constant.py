"""What is made of weights that stand still."""

import threading

import pytest
import torch

from rtil.generators import PGGANGenerator, StyleGAN2Generator
from rtil.generators.constant import constant_weights, of_weights
from rtil.seeds import generator as seeded


@pytest.fixture
def weights():
    return torch.nn.Parameter(torch.arange(3.0), requires_grad=False)


class Doubling:
    def __init__(self, weights):
        self.weights, self.calls = weights, 0

    def __call__(self):
        self.calls += 1
        return self.weights * 2


def test_constant_weights_are_prepared_once_for_each_use(weights):
    double = Doubling(weights)
    with constant_weights():
        for use in ("a", "a", "b", "a"):
            assert torch.equal(of_weights(weights, use, double), torch.tensor([0.0, 2, 4]))
        other = torch.nn.Parameter(torch.ones(2), requires_grad=False)
        assert torch.equal(of_weights(other, "a", Doubling(other)), torch.full((2,), 2.0))
    assert double.calls == 2


def test_nothing_is_remembered_beyond_the_block_or_outside_one(weights):
    double = Doubling(weights)
    with constant_weights():
        of_weights(weights, "a", double)
    weights += 1
    assert torch.equal(of_weights(weights, "a", double), torch.tensor([2.0, 4, 6]))
    with constant_weights():
        assert torch.equal(of_weights(weights, "a", double), torch.tensor([2.0, 4, 6]))
    assert double.calls == 3


def test_another_thread_makes_no_promise(weights):
    """Its inverter may run beside a training that changes the weights."""
    double = Doubling(weights)
    with constant_weights():
        of_weights(weights, "a", double)
        other = threading.Thread(target=of_weights, args=(weights, "a", double))
        other.start()
        other.join()
    assert double.calls == 2


def test_weights_that_are_learned_are_prepared_every_time_with_their_graph(weights):
    weights.requires_grad_()
    double = Doubling(weights)
    with constant_weights():
        for _ in range(2):
            assert of_weights(weights, "a", double).requires_grad
    assert double.calls == 2


@pytest.mark.parametrize("arch", [StyleGAN2Generator, PGGANGenerator])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_pictures_and_gradients_are_the_same(arch, dtype):
    torch.manual_seed(0)
    G, rng = arch(16, {4: 8, 8: 8, 16: 8}, z_dim=8).requires_grad_(False), seeded(0, "test")
    z, noise = G.draw_z(2, rng).requires_grad_(), G.draw_noise(2, rng)

    def run():
        with G.computing_in(dtype):
            x = G(G.mapping(z), noise)
        return x, *torch.autograd.grad(x.square().sum(), z)

    expected = run()
    with constant_weights():
        for _ in range(2):
            for a, b in zip(run(), expected, strict=True):
                assert torch.equal(a, b)
