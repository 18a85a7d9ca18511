import json
import math

import pytest
import torch
import torch.nn.functional as F

from rtil.discriminators import PGGANDiscriminator
from rtil.discriminators.pggan import append_batch_std, halve
from rtil.errors import UserError
from rtil.seeds import generator as seeded

CHANNELS = {4: 12, 8: 10, 16: 8, 32: 6}
GROWTHS = [(4, 1.0), (4, 0.3), (3, 1.0), (2, 0.5), (2, 1.0), (1, 1.0)]


def build(resolution=32, channels=CHANNELS, pixel_norm=True, dtype=torch.float64):
    torch.manual_seed(0)
    d = PGGANDiscriminator(resolution, channels, pixel_norm).to(dtype)
    for name, p in d.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p)
    return d


def pictures(n, side, seed=0):
    return torch.randn(n, 3, side, side, generator=seeded(seed, "test")).double()


def reference(d, images, pixel_norm=True):
    """The papers' formulas, one convolution of torch after the other."""
    p, fade, last = dict(d.named_parameters()), d.fade, d.num_blocks - 1

    def act(x):
        if pixel_norm:
            x = x / (x.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()
        return F.leaky_relu(x, 0.2)

    def conv(x, name, padding=1):
        w = p[f"{name}.weight"]
        return F.conv2d(x, w * math.sqrt(2 / w[0].numel()), p[f"{name}.bias"], padding=padding)

    def half(x):
        return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)

    x = conv(images, f"fromrgb.{last}", 0)
    for b in range(last, 0, -1):
        x = half(act(conv(act(conv(x, f"blocks.{b}.conv0")), f"blocks.{b}.conv1")))
        if b == last and fade < 1:
            x = (1 - fade) * conv(half(images), f"fromrgb.{b - 1}", 0) + fade * x
    spread = ((x - x.mean(0)).pow(2).mean(0) + 1e-8).sqrt().mean()
    x = torch.cat([x, spread * torch.ones_like(x[:, :1])], 1)
    x = act(conv(x, "blocks.0.conv"))
    w = p["blocks.0.fc.weight"].unflatten(1, (-1, 4, 4))
    x = act(F.conv2d(x, w * math.sqrt(2 / w[0].numel()), p["blocks.0.fc.bias"]))
    w = p["blocks.0.out.weight"]
    return (x.flatten(1) @ w.t() * math.sqrt(2 / w.shape[1]) + p["blocks.0.out.bias"]).flatten()


def gradient_penalty(scores, real, fake):
    """Gulrajani et al. 2017, target 1, half way between the pictures, with PGGAN's drift of the scores."""
    x = ((real + fake) / 2).requires_grad_()
    out = scores(x)
    (gradient,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    return (10 * (gradient.pow(2).sum((1, 2, 3)).sqrt() - 1).pow(2) + 1e-3 * out.pow(2)).mean()


def weight_gradients(d, value):
    gradients = torch.autograd.grad(value, list(d.parameters()), allow_unused=True)
    return {name: g for (name, _), g in zip(d.named_parameters(), gradients, strict=True) if g is not None}


@pytest.mark.parametrize("pixel_norm", [True, False])
@pytest.mark.parametrize(("blocks", "fade"), GROWTHS)
def test_equals_the_formulas(pixel_norm, blocks, fade):
    d = build(pixel_norm=pixel_norm)
    d.grow(blocks, fade)
    x = pictures(5, d.resolution)
    torch.testing.assert_close(d(x), reference(d, x, pixel_norm), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pixel_norm", [True, False])
@pytest.mark.parametrize(("blocks", "fade"), GROWTHS)
def test_weight_gradients_of_the_gradient_penalty(pixel_norm, blocks, fade):
    d = build(pixel_norm=pixel_norm)
    d.grow(blocks, fade)
    real, fake = pictures(3, d.resolution), pictures(3, d.resolution, seed=1)
    ours = weight_gradients(d, gradient_penalty(d, real, fake))
    exact = weight_gradients(d, gradient_penalty(lambda x: reference(d, x, pixel_norm), real, fake))
    assert ours.keys() == exact.keys()
    for name, expected in exact.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-7, atol=1e-8, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("fade", [1.0, 0.5])
@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_gradient_penalty_in_bfloat16(side, fade):
    """Rounding flips some leaky-ReLU slopes, hence the margin; a wrong double backward is off by about 100 %."""
    channels = dict.fromkeys((4, 8, 16, 32, 64), 16)
    real, fake = pictures(4, side).float(), pictures(4, side, seed=1).float()
    d = build(64, channels, dtype=torch.float32)
    d.grow(int(math.log2(side)) - 1, fade)
    exact = weight_gradients(d, gradient_penalty(d, real, fake))
    d.compute_dtype = torch.bfloat16
    fast = weight_gradients(d, gradient_penalty(d, real, fake))
    assert all(g.dtype == torch.float32 for g in fast.values())
    e = torch.cat([g.flatten() for g in exact.values()])
    f = torch.cat([g.flatten() for g in fast.values()])
    assert 0 < (f - e).norm() / e.norm() < 0.08


def test_parameters_of_rtil():
    d = PGGANDiscriminator(256)
    assert sum(p.numel() for p in d.parameters()) == 6_367_617
    assert not any(p.any() for name, p in d.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_batch_std_by_the_formula(n):
    x = torch.randn(n, 4, 4, 4, generator=seeded(0, "test")).double()
    y = append_batch_std(x)
    assert torch.equal(y[:, :4], x)
    expected = math.fsum(
        math.sqrt(sum((v - sum(column) / n) ** 2 for v in column) / n + 1e-8)
        for column in x.flatten(1).t().tolist()
    ) / (4 * 4 * 4)  # fmt: skip
    torch.testing.assert_close(y[:, 4], torch.full((n, 4, 4), expected).double())


def test_all_samples_of_a_batch_meet():
    d = PGGANDiscriminator(8, {4: 4, 8: 4}).double()
    jacobian = torch.autograd.functional.jacobian(d, pictures(5, 8)).flatten(2).abs().sum(2)  # [N N]
    assert (jacobian > 0).all()


@pytest.mark.parametrize("blocks", [2, 3, 4])
def test_fade_starts_at_the_scores_of_half_the_picture(blocks):
    d = build()
    x = pictures(4, 2 ** (blocks + 1))
    d.grow(blocks - 1)
    before = d(halve(x))
    d.grow(blocks)
    new = d(x)
    d.grow(blocks, 0)
    assert torch.equal(d(x), before)
    d.grow(blocks, 1 - 1e-9)
    torch.testing.assert_close(d(x), new, rtol=1e-6, atol=1e-6)


def test_halving_is_bilinear_too():
    x = pictures(2, 8)
    torch.testing.assert_close(halve(x), F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False))


def test_bfloat16_scores_are_float32_and_4_px_is_exact():
    d = build(dtype=torch.float32)
    x = pictures(4, 32).float()
    exact = d(x)
    d.compute_dtype = torch.bfloat16
    fast = d(x)
    assert fast.dtype == torch.float32
    assert 0 < (fast - exact).norm() / exact.norm() < 0.1
    d.grow(1)
    low = d(x[:, :, :4, :4])
    d.compute_dtype = None
    assert torch.equal(low, d(x[:, :, :4, :4]))


@pytest.mark.parametrize(("blocks", "fade"), GROWTHS)
def test_config_opens_what_it_was(blocks, fade):
    d = build()
    d.grow(blocks, fade)
    clone = PGGANDiscriminator(**json.loads(json.dumps(d.config))).double()
    clone.load_state_dict(d.state_dict())
    assert clone.config == d.config
    x = pictures(3, 2 ** (blocks + 1))
    assert torch.equal(clone(x), d(x))


@pytest.mark.parametrize(("blocks", "fade"), [(0, 1), (5, 1), (3, 2), (1, 0.5)])
def test_growth_out_of_range(blocks, fade):
    d = build()
    with pytest.raises(UserError):
        d.grow(blocks, fade)
    assert (d.num_blocks, d.fade, d.resolution) == (4, 1, 32)


def test_pictures_of_another_side_are_refused():
    d = build()
    d.grow(3)
    with pytest.raises(UserError, match="32x32 pixels: 3 blocks take 16 px"):
        d(pictures(2, 32))
