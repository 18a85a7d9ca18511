import pytest
import torch
import torch.nn.functional as F

from rtil.discriminators import StyleGAN2Discriminator
from rtil.generators import StyleGAN2Generator
from rtil.ops import conv2d, conv_transpose2d
from rtil.seeds import generator as seeded
from rtil.training.losses import path_lengths, r1_penalty


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 1, 6), (1, 0, 5), (2, 0, 7), (2, 0, 6), (2, 1, 8)])
def test_conv2d_equals_torch_to_second_order(stride, padding, size):
    x, w = draw(2, 3, size, size).requires_grad_(), draw(4, 3, 3, 3, seed=1).requires_grad_()
    torch.testing.assert_close(conv2d(x, w, stride, padding), F.conv2d(x, w, stride=stride, padding=padding))
    assert torch.autograd.gradcheck(lambda x, w: conv2d(x, w, stride, padding), (x, w))
    assert torch.autograd.gradgradcheck(lambda x, w: conv2d(x, w, stride, padding), (x, w))


@pytest.mark.parametrize("size", [3, 4])
def test_conv_transpose2d_equals_torch_to_second_order(size):
    x, w = draw(2, 3, size, size).requires_grad_(), draw(3, 2, 3, 3, seed=1).requires_grad_()
    torch.testing.assert_close(conv_transpose2d(x, w, stride=2), F.conv_transpose2d(x, w, stride=2))
    assert torch.autograd.gradcheck(lambda x, w: conv_transpose2d(x, w, stride=2), (x, w))
    assert torch.autograd.gradgradcheck(lambda x, w: conv_transpose2d(x, w, stride=2), (x, w))


def relative(fast, exact):
    return float(
        (torch.cat([f.double().flatten() for f in fast]) - (e := torch.cat([x.flatten() for x in exact]))).norm()
        / e.norm()
    )


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_second_order_weight_gradients_of_a_stack_in_bfloat16(side):
    """The case that torch's own double backward gets wrong by about 100 % at 16, 32, 64 px on AMX processors."""
    torch.manual_seed(0)
    weights = [torch.randn(16, 16, 3, 3) / 12 for _ in range(4)]
    x = torch.randn(4, 16, side, side)

    def gradients(dtype):
        ws = [w.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_() for w in weights]
        leaf = x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        y = leaf
        for w in ws:
            y = F.leaky_relu(conv2d(y, w, padding=1), 0.2)
        (g,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
        return torch.autograd.grad(g.square().sum(), ws)

    assert relative(gradients(torch.bfloat16), gradients(torch.float64)) < 0.06


CHANNELS = {4: 16, 8: 16, 16: 16, 32: 16, 64: 16}


def weight_gradients(network, value):
    return [g for g in torch.autograd.grad(value, list(network.parameters()), allow_unused=True) if g is not None]


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_r1_weight_gradients_in_bfloat16(side):
    """Rounding flips some leaky-ReLU slopes, hence 12 %; a wrong double backward is off by about 100 %."""
    torch.manual_seed(0)
    d = StyleGAN2Discriminator(side, CHANNELS)
    x = torch.randn(4, 3, side, side)
    d.compute_dtype = torch.bfloat16
    fast = weight_gradients(d, r1_penalty(d, x).mean())
    d.compute_dtype = None
    d.double()
    assert relative(fast, weight_gradients(d, r1_penalty(d, x.double()).mean())) < 0.12


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_path_length_weight_gradients_in_bfloat16(side):
    torch.manual_seed(0)
    g = StyleGAN2Generator(side, CHANNELS, z_dim=16, w_dim=16, mapping_layers=2)
    rng = seeded(0, "test")
    z, noise = g.draw_z(4, rng), g.draw_noise(4, rng)
    y = torch.randn(4, 3, side, side, generator=rng) / side

    def gradients(dtype):
        ws = g.mapping(z.to(dtype))
        images = g(ws, [n.to(dtype) for n in noise])
        lengths = path_lengths(images, ws, y.to(dtype), torch.ones(4, dtype=torch.int64))
        return weight_gradients(g, (lengths - 0.5).square().mean())

    with g.computing_in(torch.bfloat16):
        fast = gradients(torch.float32)
    g.double()
    assert relative(fast, gradients(torch.float64)) < 0.06
