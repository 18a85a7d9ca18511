import json
import math

import pytest
import torch
import torch.nn.functional as F

from rtil.errors import UserError
from rtil.generators import GENERATORS, PGGANGenerator
from rtil.generators.mixing import head_of_rows, mix_rows
from rtil.seeds import generator as seeded

SQRT2 = math.sqrt(2)
CHANNELS = {4: 12, 8: 10, 16: 8, 32: 6}
KARRAS = {"normalize_latent": True, "upsampling": "nearest", "norm_order": "after_act", "torgb_gain": 1.0}
RTIL = {"normalize_latent": False, "upsampling": "bilinear", "norm_order": "before_act", "torgb_gain": SQRT2}
PUBLISHED = KARRAS | {"first_convolutions": 1}
GAN_ZOO = PUBLISHED | {"input_bias": "pixel", "torgb_gain": SQRT2}
GROWTHS = [(4, 1.0), (4, 0.3), (3, 1.0), (3, 0.6), (2, 0.5), (1, 1.0)]


def build(options=RTIL, dtype=torch.float64):
    torch.manual_seed(0)
    g = PGGANGenerator(32, CHANNELS, z_dim=16, **options).to(dtype)
    for name, p in g.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p)
    return g


@pytest.fixture(params=[RTIL, KARRAS, GAN_ZOO], ids=["rtil", "karras", "gan_zoo"])
def g(request):
    return build(request.param)


@pytest.fixture
def ws():
    return torch.randn(3, 1, 16, generator=seeded(0, "test")).double()


def unit(x):
    return x / (x.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()


def reference(g, z, blocks, fade, options):
    """The papers' formulas, one convolution of torch after the other."""
    p = dict(g.named_parameters())

    def up(x):
        if options["upsampling"] == "nearest":
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def act(x):
        if options["norm_order"] == "after_act":
            return unit(F.leaky_relu(x, 0.2))
        return F.leaky_relu(unit(x), 0.2)

    def conv(x, name, gain=SQRT2):
        w = p[f"{name}.weight"]
        return F.conv2d(x, w * gain / math.sqrt(w[0].numel()), p[f"{name}.bias"], padding=w.shape[-1] // 2)

    z = unit(z) if options["normalize_latent"] else z
    w = p["input.weight"]
    bias = p["input.bias"] if p["input.bias"].ndim == 3 else p["input.bias"][:, None, None]
    x = act(F.conv_transpose2d(z[:, :, None, None], w * math.sqrt(2 / w[0].numel())) + bias)
    for b in range(blocks):
        before = x
        x = up(x) if b else x
        x = x if b == 0 and options.get("first_convolutions") == 1 else act(conv(x, f"blocks.{b}.conv0"))
        x = act(conv(x, f"blocks.{b}.conv1"))
    rgb = conv(x, f"blocks.{blocks - 1}.torgb", options["torgb_gain"])
    if fade == 1:
        return rgb
    return (1 - fade) * up(conv(before, f"blocks.{blocks - 2}.torgb", options["torgb_gain"])) + fade * rgb


@pytest.mark.parametrize(
    "options",
    [RTIL, KARRAS, RTIL | {"norm_order": "after_act"}, KARRAS | {"torgb_gain": 0.5}, PUBLISHED, GAN_ZOO],
)
@pytest.mark.parametrize(("blocks", "fade"), GROWTHS)
def test_equals_the_formulas(options, ws, blocks, fade):
    g = build(options)
    g.grow(blocks, fade)
    pictures = [g(ws, []), reference(g, ws[:, 0], blocks, fade, options)]
    torch.testing.assert_close(*pictures, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(x.pow(3).sum(), list(g.parameters()), allow_unused=True) for x in pictures]
    for ours, exact in zip(*gradients, strict=True):
        assert (ours is None) == (exact is None)
        if exact is not None:
            torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-8)


def test_parameters_of_rtil_table_2():
    g = PGGANGenerator(256)
    assert sum(p.numel() for p in g.parameters()) == 7_449_109
    lower = sum(p.numel() for block in g.blocks[:-1] for p in block.torgb.parameters())
    assert 7_449_109 - lower == 7_445_443


def test_first_weights_are_standard_normal():
    g = PGGANGenerator(16, {4: 64, 8: 64, 16: 64}, z_dim=64)
    for name, p in g.state_dict().items():
        if name.endswith("bias"):
            assert not p.any()
        else:
            assert abs(float(p.mean())) < 6 / math.sqrt(p.numel())
            assert float(p.std()) == pytest.approx(1, abs=6 / math.sqrt(2 * p.numel()))


@pytest.mark.parametrize(("blocks", "fade"), GROWTHS)
def test_tail_of_head_is_the_whole(g, ws, blocks, fade):
    g.grow(blocks, fade)
    z1 = {k: torch.randn(3, *g.cut_shape(k), generator=seeded(k, "z1")).double() for k in range(1, blocks + 1)}
    for k in range(1, blocks + 1):
        assert torch.equal(g.tail(g.head(ws, [], k, z1), ws, [], k, z1), g(ws, [], z1))


@pytest.mark.parametrize("fade", [1.0, 0.3])
def test_advance_in_two_steps_equals_one(g, ws, fade):
    g.grow(4, fade)
    z1 = {k: torch.randn(3, *g.cut_shape(k), generator=seeded(k, "z1")).double() for k in (1, 2, 3, 4)}
    at_1 = g.head(ws, [], 1, z1)
    one = g.advance(at_1, ws, [], 1, 4, z1)
    for middle in (2, 3):
        two = g.advance(g.advance(at_1, ws, [], 1, middle, z1), ws, [], middle, 4, z1)
        assert torch.equal(two.feature, one.feature)
        assert (two.rgb is None) == (one.rgb is None) == (fade == 1)
        assert fade == 1 or torch.equal(two.rgb, one.rgb)


@pytest.mark.parametrize("fade", [1.0, 0.3])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_zero_z1_changes_nothing_and_other_z1_reaches_the_picture(g, ws, k, fade):
    g.grow(4, fade)
    zero = {k: torch.zeros(3, *g.cut_shape(k)).double()}
    assert torch.equal(g(ws, [], zero), g(ws, []))
    z1 = torch.randn(3, *g.cut_shape(k), generator=seeded(1, "z1")).double()
    state, plain = g.head(ws, [], k, {k: z1}), g.head(ws, [], k)
    torch.testing.assert_close(state.feature, plain.feature + z1)
    moved = (g.tail(state, ws, [], k) - g(ws, [])).abs().amax(dim=(1, 2, 3))
    assert (moved > 1e-3).all()


@pytest.mark.parametrize("options", [RTIL, KARRAS], ids=["rtil", "karras"])
def test_while_fading_z1_shows_in_both_pictures(options, ws):
    g = build(options)
    g.grow(4, 0.3)
    z1 = {3: torch.randn(3, *g.cut_shape(3), generator=seeded(1, "z1")).double()}
    moved, plain = g.head(ws, [], 4, z1), g.head(ws, [], 4)
    assert plain.rgb.shape == (3, 3, 16, 16)
    assert not torch.allclose(moved.rgb, plain.rgb)
    assert not torch.allclose(moved.feature, plain.feature)


def test_in_karras_order_the_cut_lies_before_the_norm(ws):
    g = build(KARRAS)
    state = g.head(ws, [], 4)
    assert (state.feature.pow(2).mean(1) - 1).abs().max() > 0.1
    scaled = state._replace(feature=state.feature * 7)
    torch.testing.assert_close(g.finish(scaled, ws), g.finish(state, ws), rtol=1e-6, atol=1e-6)


def test_in_rtil_order_features_have_unit_rms_before_the_activation(ws):
    feature = build(RTIL).head(ws, [], 3).feature
    before = torch.where(feature > 0, feature, feature / 0.2)
    torch.testing.assert_close(before.pow(2).mean(1), torch.ones(3, 16, 16).double(), rtol=1e-5, atol=1e-5)


def test_normalised_latent_forgets_its_length_and_stays_in_ws():
    z = torch.randn(3, 16, generator=seeded(0, "test")).double()
    g = build(KARRAS)
    assert torch.equal(g.mapping(z), z[:, None])
    torch.testing.assert_close(g(g.mapping(5 * z), []), g(g.mapping(z), []), rtol=1e-6, atol=1e-6)
    g = build(RTIL)
    assert not torch.allclose(g(g.mapping(5 * z), []), g(g.mapping(z), []), atol=0.1)


@pytest.mark.parametrize("blocks", [2, 3, 4])
def test_fade_starts_at_the_picture_before_and_ends_at_the_new_one(g, ws, blocks):
    g.grow(blocks - 1)
    before = g._upsample(g(ws, []))
    g.grow(blocks)
    new = g(ws, [])
    g.grow(blocks, 0)
    assert torch.equal(g(ws, []), before)
    g.grow(blocks, 1 - 1e-9)
    torch.testing.assert_close(g(ws, []), new, rtol=1e-7, atol=1e-7)
    g.grow(blocks, 0.25)
    torch.testing.assert_close(g(ws, []), 0.75 * before + 0.25 * new)


@pytest.mark.parametrize("fade", [1.0, 0.4])
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_mixed_codes_show_in_the_fading_picture(g, fade, cut):
    """Against the codes one by one, their features added by hand, and the formulas of the fade on the mixture."""
    g.grow(4, fade)
    codes = torch.randn(6, 1, 16, generator=seeded(2, "test")).double()
    weights = torch.zeros(2, 6).double()
    weights[0, :3] = torch.tensor([0.2, 0.5, 0.3])
    weights[1, 3:] = torch.tensor([0.6, 0.1, 0.3])
    ours = g.tail(mix_rows(head_of_rows(g, codes, [], cut), weights), codes[:2], [], cut)
    for n in range(2):
        states = [g.head(codes[r : r + 1], [], cut) for r in range(6)]
        state = states[0]._replace(feature=sum(float(weights[n, r]) * s.feature for r, s in enumerate(states)))
        if state.rgb is not None:
            state = state._replace(rgb=sum(float(weights[n, r]) * s.rgb for r, s in enumerate(states)))
        torch.testing.assert_close(ours[n : n + 1], g.tail(state, codes[:1], [], cut), rtol=1e-6, atol=1e-6)


def test_chunks_of_codes_give_the_same_gradients(g):
    g.grow(4, 0.5)
    codes = torch.randn(5, 1, 16, generator=seeded(2, "test")).double()
    weights = torch.full((1, 5), 0.2).double()

    def gradients(chunk):
        picture = g.tail(mix_rows(head_of_rows(g, codes, [], 3, chunk), weights), codes[:1], [], 3)
        return torch.autograd.grad(picture.square().sum(), list(g.parameters()), allow_unused=True)

    for whole, chunked in zip(gradients(5), gradients(2), strict=True):
        torch.testing.assert_close(whole, chunked, rtol=1e-8, atol=1e-8)


def test_samples_do_not_see_each_other(g, ws):
    torch.testing.assert_close(g(ws, [])[1:2], g(ws[1:2], []), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [RTIL, KARRAS], ids=["rtil", "karras"])
@pytest.mark.parametrize("fade", [1.0, 0.5])
def test_bfloat16_computes_close_and_returns_float32(options, ws, fade):
    g = build(options, torch.float32)
    g.grow(4, fade)
    exact = g(ws.float(), [])
    with g.computing_in(torch.bfloat16):
        fast = g(ws.float(), [])
        assert g.head(ws.float(), [], 4).feature.dtype == torch.bfloat16
    assert g.compute_dtype is None
    assert fast.dtype == torch.float32
    error = (fast - exact).norm() / exact.norm()
    assert 0 < error < 0.02


def test_features_are_channels_last(ws):
    g = build(RTIL)
    assert all(g.head(ws, [], k).feature.is_contiguous(memory_format=torch.channels_last) for k in (1, 2, 3, 4))


def test_shapes_of_the_contract(g):
    assert GENERATORS["pggan"] is PGGANGenerator
    assert (g.num_ws, g.latent_space) == (1, "z")
    assert g.noise_shapes() == []
    assert g.draw_noise(2, seeded(0, "test")) == []
    assert [list(g.noise_of_block(b)) for b in range(4)] == [[]] * 4
    assert [g.first_row_behind(k) for k in range(5)] == [0, 1, 1, 1, 1]
    assert [g.cut_shape(k) for k in (1, 4)] == [(12, 4, 4), (6, 32, 32)]


@pytest.mark.parametrize(("blocks", "fade"), GROWTHS)
def test_config_opens_what_it_was(g, ws, blocks, fade):
    g.grow(blocks, fade)
    assert (g.resolution, g.config["resolution"], g.num_blocks) == (2 ** (blocks + 1), 32, blocks)
    clone = PGGANGenerator(**json.loads(json.dumps(g.config))).double()
    assert clone.config == g.config
    clone.load_state_dict(g.state_dict())
    assert torch.equal(clone(ws, []), g(ws, []))


def test_cuts_end_with_the_blocks_shown(g):
    g.grow(2)
    with pytest.raises(UserError, match=r"this 8 px generator has cuts 1\.\.2"):
        g.cut_shape(3)


@pytest.mark.parametrize(
    ("blocks", "fade", "message"),
    [
        (0, 1, r"0 blocks .* this 32 px network has 1\.\.4"),
        (5, 1, r"5 blocks .* 1\.\.4"),
        (3, 1.5, "fade 1.5 .* from 0 "),
        (3, -0.1, "fade -0.1 .* from 0 "),
        (3, math.nan, "fade nan .* from 0 "),
        (1, 0.5, "first block"),
    ],
)
def test_growth_out_of_range_changes_nothing(g, blocks, fade, message):
    with pytest.raises(UserError, match=message):
        g.grow(blocks, fade)
    assert (g.num_blocks, g.fade, g.resolution) == (4, 1, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsampling": "linear"}, "unknown upsampling 'linear'.*did you mean 'bilinear'"),
        ({"norm_order": "after"}, "unknown norm_order 'after': valid are before_act, after_act"),
        ({"channels": {4: 8, 16: 8}}, "side 8"),
        ({"first_convolutions": 3}, r"first_convolutions is 3: valid are 1 \(Karras\) and 2"),
        ({"input_bias": "pixels"}, "unknown input_bias 'pixels'.*did you mean 'pixel'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UserError, match=message):
        PGGANGenerator(16, **options)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_second_derivatives_through_upsampling(mode, dtype):
    g = PGGANGenerator(8, {4: 4, 8: 4}, z_dim=4, upsampling=mode)
    x = torch.randn(2, 4, 5, 5, generator=seeded(0, "test")).to(dtype, memory_format=torch.channels_last)

    def second(x):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(g._upsample(x).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0].double()

    exact = second(x.double())
    assert (second(x) - exact).norm() / exact.norm() < (0.02 if dtype == torch.bfloat16 else 1e-5)
