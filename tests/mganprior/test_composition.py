"""The picture of many codes, against loops over codes that write the definition out."""

import pytest
import torch

from rtil import seeds
from rtil.generators.base import State
from rtil.generators.mixing import picture_of_codes

N, K = 3, 4


@pytest.fixture(params=[1, 2, 3])
def codes(request, generator):
    """(cut, ws [N, K, L, D], alpha [N, K, C], noise)."""
    cut, rng = request.param, seeds.generator(0, "test/codes")
    ws = generator.mapping(generator.draw_z(N * K, rng)).detach().unflatten(0, (N, K))
    alpha = torch.randn(N, K, generator.cut_shape(cut)[0], generator=rng) / K
    return cut, ws, alpha, generator.draw_noise(N, rng)


def one_code_at_a_time(G, ws, alpha, noise, cut):
    pictures = []
    for i in range(len(ws)):
        maps = [n[i : i + 1] for n in noise]
        feature, rgb, styles = 0, None, 0
        for k in range(ws.shape[1]):
            state = G.head(ws[i, k][None], maps, cut)
            feature = feature + alpha[i, k][None, :, None, None] * state.feature
            if state.rgb is not None:
                rgb = (0 if rgb is None else rgb) + alpha[i, k].mean() * state.rgb
            styles = styles + alpha[i, k].mean() * ws[i, k][None]
        pictures.append(G.tail(State(feature, rgb), styles, maps, cut))
    return torch.cat(pictures)


def with_gradients(function, *inputs):
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    picture = function(*inputs)
    loss = (picture * torch.linspace(-1, 1, picture.numel()).view_as(picture)).sum()
    return picture.detach(), torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("chunk", [1024, 5, 1])
def test_batched_heads_equal_the_loop_over_codes(generator, codes, chunk):
    cut, ws, alpha, noise = codes

    def batched(ws, alpha, *noise):
        return picture_of_codes(generator, ws, alpha, noise, cut, chunk)

    def looped(ws, alpha, *noise):
        return one_code_at_a_time(generator, ws, alpha, noise, cut)

    picture, gradients = with_gradients(batched, ws, alpha, *noise)
    expected, expected_gradients = with_gradients(looped, ws, alpha, *noise)
    assert torch.allclose(picture, expected, rtol=1e-4, atol=1e-5)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-5 * wanted.abs().max().item() + 1e-6)
    assert gradients[0].abs().amax((2, 3)).all(), "every code of every picture must act"


def test_one_code_of_weight_one_is_the_plain_generator(generator, codes):
    cut, ws, alpha, noise = codes
    picture = picture_of_codes(generator, ws[:, :1], torch.ones_like(alpha[:, :1]), noise, cut)
    assert torch.allclose(picture, generator(ws[:, 0], noise), atol=1e-5)


def test_equal_codes_whose_weights_sum_to_one_are_one_code(generator, codes):
    cut, ws, _, noise = codes
    weights = torch.tensor([0.7, 0.6, -0.3, 0.0])[None, :, None].expand(N, K, generator.cut_shape(cut)[0])
    picture = picture_of_codes(generator, ws[:, :1].expand(-1, K, -1, -1), weights, noise, cut)
    assert torch.allclose(picture, generator(ws[:, 0], noise), atol=1e-4)


def test_without_gradients_the_chunk_does_not_matter_either(generator, codes):
    cut, ws, alpha, noise = codes
    with torch.no_grad():
        whole, parts = (picture_of_codes(generator, ws, alpha, noise, cut, chunk) for chunk in (1024, 5))
    assert torch.allclose(whole, parts, atol=1e-5)
