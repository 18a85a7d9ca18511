"""Whole networks in every tier: what a training step computes of them."""

import pytest
import torch
import torch.nn.functional as F

from rtil.discriminators import StyleGAN2Discriminator
from rtil.generators import PGGANGenerator, StyleGAN2Generator
from rtil.ops import Drawn, counter_normal
from rtil.ops.selftest import using_tier
from rtil.seeds import generator as seeded
from rtil.training.losses import path_lengths, r1_penalty
from tests.rtil.ops.helpers import relative

CHANNELS = {4: 8, 8: 8, 16: 6}
SIGMA = torch.tensor([0.0, 1.0, 2.0])


def awake(network):
    """Give what starts at zero another value."""
    for name, p in network.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            torch.nn.init.normal_(p)
    return network


def gradients(network, value):
    found = torch.autograd.grad(value, list(network.parameters()), allow_unused=True, retain_graph=True)
    return [g for g in found if g is not None]


@pytest.fixture
def G():
    torch.manual_seed(0)
    return awake(StyleGAN2Generator(16, CHANNELS, z_dim=16, w_dim=16, mapping_layers=2))


@pytest.mark.parametrize(("dtype", "within"), [(None, 1e-4), (torch.bfloat16, 0.1)])
def test_generator_with_drawn_noise_to_second_order(G, fast, dtype, within):
    rng = seeded(0, "test")
    z, y = G.draw_z(3, rng), torch.randn(3, 3, 16, 16, generator=rng) / 16
    noise = [Drawn(i) for i in range(len(G.noise_shapes()))]

    def step(dtype):
        with G.computing_in(dtype):
            ws = G.mapping(z)
            images = G(ws, noise, {1: Drawn(100, SIGMA), 2: Drawn(101, SIGMA)})
            lengths = path_lengths(images, ws, y, torch.ones(3, dtype=torch.int64))
        return images, gradients(G, images.square().sum()), gradients(G, lengths.square().mean())

    images, first, second = step(dtype)
    with using_tier("ref"):
        exact = step(None)
    assert relative(images, exact[0]) < within
    for ours, theirs in ((first, exact[1]), (second, exact[2])):
        assert relative(*(torch.cat([g.flatten() for g in each]) for each in (ours, theirs))) < within


def test_discriminator_to_second_order(fast):
    torch.manual_seed(0)
    D, x = awake(StyleGAN2Discriminator(16, CHANNELS)), torch.randn(4, 3, 16, 16, generator=seeded(0, "x"))

    def step():
        scores = D(x)
        return scores, gradients(D, F.softplus(scores).mean()), gradients(D, r1_penalty(D, x).mean())

    scores, *ours = step()
    with using_tier("ref"):
        exact, *theirs = step()
    assert relative(scores, exact) < 1e-5
    for a, b in zip(ours, theirs, strict=True):
        assert relative(*(torch.cat([g.flatten() for g in each]) for each in (a, b))) < 1e-4


@pytest.mark.parametrize("arch", [StyleGAN2Generator, PGGANGenerator])
def test_drawn_input_is_the_tensor_of_its_numbers(tier, arch):
    torch.manual_seed(0)
    G = awake(arch(16, CHANNELS, z_dim=8))
    ws = G.mapping(torch.randn(3, 8, generator=seeded(0, "z")))
    keys = range(len(G.noise_shapes()))
    z1 = {k: counter_normal((3, *G.cut_shape(k)), 50 + k) * SIGMA[:, None, None, None] for k in (1, 2)}
    given = G(ws, [counter_normal((3, *shape), i) for i, shape in zip(keys, G.noise_shapes(), strict=True)], z1)
    drawn = G(ws, [Drawn(i) for i in keys], {k: Drawn(50 + k, SIGMA) for k in (1, 2)})
    torch.testing.assert_close(drawn, given, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(drawn, G(ws, [Drawn(i) for i in keys]))


@pytest.mark.parametrize("arch", [StyleGAN2Generator, PGGANGenerator])
def test_some_rows_of_drawn_input_are_those_of_the_whole_batch(tier, arch):
    torch.manual_seed(0)
    G, rows, sigma = awake(arch(16, CHANNELS, z_dim=8)), torch.tensor([1, 4]), torch.tensor([0.0, 1.0, 1.0, 0.0, 2.0])
    ws, keys = G.mapping(torch.randn(5, 8, generator=seeded(0, "z"))), range(len(G.noise_shapes()))
    whole = G(ws, [Drawn(i) for i in keys], {k: Drawn(50 + k, sigma) for k in (1, 2)})
    z1 = {k: Drawn(50 + k, sigma[rows], rows) for k in (1, 2)}
    torch.testing.assert_close(G(ws[rows], [Drawn(i, rows=rows) for i in keys], z1), whole[rows], rtol=1e-4, atol=1e-5)
