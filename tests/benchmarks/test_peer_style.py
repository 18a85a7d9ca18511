"""The reference computes what ours computes, else its time would be no reference."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.peer_ilo import Sensing, all_pairs_geodesic, compressed_sensing_loss, invert
from benchmarks.peer_style import PeerDiscriminator, PeerGenerator
from ilo.rounds import noise_maps
from rtil import ops
from rtil.discriminators import StyleGAN2Discriminator
from rtil.generators import StyleGAN2Generator
from rtil.inverse.latent_space import GaussianWPlus
from rtil.inverse.losses import geodesic
from rtil.inverse.operators.circulant import PartialCirculant
from rtil.seeds import generator as seeded

CHANNELS = {4: 8, 8: 6, 16: 4}


@pytest.fixture(scope="module")
def G():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = StyleGAN2Generator(16, CHANNELS, z_dim=12, w_dim=12, mapping_layers=2)
        for name, parameter in G.named_parameters():
            if "bias" in name or "noise" in name:
                parameter.data += 0.3 * torch.randn_like(parameter)
    return G


@pytest.fixture(scope="module")
def D():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        D = StyleGAN2Discriminator(16, CHANNELS)
        for name, parameter in D.named_parameters():
            if "bias" in name:
                parameter.data += 0.3 * torch.randn_like(parameter)
    return D


def close(ours, peers):
    torch.testing.assert_close(peers, ours, rtol=1e-4, atol=1e-4)


def test_generator_makes_the_same_pictures_and_gradients(G):
    peer = PeerGenerator.of(G)
    rng = seeded(0, "test")
    z, noise = G.draw_z(3, rng), G.draw_noise(3, rng)
    z1 = {2: torch.randn(3, *G.cut_shape(2), generator=rng)}
    found = []
    for network in (G, peer):
        ws = network.mapping(z)
        picture = network(ws, noise, z1)
        weights = [p for p in network.parameters() if p.requires_grad]
        found.append((ws, picture, torch.autograd.grad(picture.square().mean(), weights)))
    for ours, peers in zip(*found, strict=True):
        close(ours, peers)


def test_generator_is_entered_at_cuts(G):
    peer = PeerGenerator.of(G)
    rng = seeded(0, "test")
    ws, noise = torch.randn(2, G.num_ws, 12, generator=rng), G.draw_noise(2, rng)
    for cut in (1, 2, 3):
        close(G(ws, noise), peer.tail(G.head(ws, noise, cut), ws, noise, cut))
        close(G(ws, noise), G.tail(peer.head(ws, noise, cut), ws, noise, cut))


def test_discriminator_gives_the_same_scores_and_r1_gradients(D):
    peer = PeerDiscriminator.of(D)
    found = []
    for network in (D, peer):
        images = torch.rand(8, 3, 16, 16, generator=seeded(0, "images")) * 2 - 1
        images.requires_grad_()
        scores = network(images)
        (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        penalty = slope.square().sum((1, 2, 3))
        found.append((scores, penalty, torch.autograd.grad(penalty.sum(), network.conv.weight)[0]))
    for ours, peers in zip(*found, strict=True):
        close(ours, peers)


def test_none_of_our_operations_is_used(G, D, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError

    peer_g, peer_d = PeerGenerator.of(G), PeerDiscriminator.of(D)
    for module in ("rtil.generators.stylegan2", "rtil.generators.layers"):
        for name in ops.__all__:
            monkeypatch.setattr(f"{module}.{name}", forbidden, raising=False)
    with pytest.raises(AssertionError):
        G.mapping(torch.zeros(1, 12))
    peer_d(peer_g(peer_g.mapping(torch.zeros(2, 12)), G.draw_noise(2, seeded(0, "noise"))))


def test_measurements_by_complex_fft_are_those_of_the_operator():
    operator = PartialCirculant((3, 8, 8), 0.3)
    x = torch.randn(2, 3, 8, 8, generator=seeded(0, "x"))
    close(operator.A(x), Sensing.of(operator).measure(x))


def test_geodesic_over_all_pairs_is_ours():
    v = torch.randn(3, 6, 10, generator=seeded(0, "v"))
    close(geodesic(v).mean(), all_pairs_geodesic(v))


def test_inversion_lowers_the_error_and_keeps_to_its_variables(G):
    peer = PeerGenerator.of(G)
    latents = GaussianWPlus(torch.zeros(12), torch.ones(12), G.num_ws)
    operator = PartialCirculant((3, 16, 16), 0.5)
    rng = seeded(1, "truth")
    with torch.no_grad():
        truth = G(latents.ws(torch.randn(2, G.num_ws, 12, generator=rng)), G.draw_noise(2, rng))
    seen = []
    loss = compressed_sensing_loss(operator, truth)
    first = invert(peer, latents, loss, 2, [1], lambda k, step: None)
    best = invert(peer, latents, loss, 2, [20, 15, 10], lambda k, step: seen.append((k, step)))
    assert seen == [(k, step) for k, count in enumerate([20, 15, 10]) for step in range(count + 1)]
    assert F.mse_loss(best, truth) < 0.5 * F.mse_loss(first, truth)
    assert peer.blocks[2].conv1.weight.grad is not None  # its weights are not frozen, like the published code's
    assert noise_maps("5+2k", G, 1) == [1, 2, 3, 4]
