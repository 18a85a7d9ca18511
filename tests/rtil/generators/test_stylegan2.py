import pytest
import torch

from rtil.errors import UserError
from rtil.generators import StyleGAN2Generator
from rtil.seeds import generator as seeded

CHANNELS = {4: 12, 8: 10, 16: 8, 32: 6}


@pytest.fixture
def g():
    torch.manual_seed(0)
    g = StyleGAN2Generator(32, CHANNELS, z_dim=16, w_dim=16, mapping_layers=2).double()
    for name, p in g.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            torch.nn.init.normal_(p)
    return g


@pytest.fixture
def inputs(g):
    rng = seeded(0, "test")
    ws = torch.randn(3, g.num_ws, 16, generator=rng).double()
    return ws, [n.double() for n in g.draw_noise(3, rng)]


def test_parameters_of_rtil_table_1():
    assert sum(p.numel() for p in StyleGAN2Generator(256).parameters()) == 10_206_434


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_tail_of_head_is_the_whole(g, inputs, k):
    ws, noise = inputs
    torch.testing.assert_close(g.tail(g.head(ws, noise, k), ws, noise, k), g(ws, noise), rtol=1e-12, atol=1e-12)


def test_advance_in_two_steps_equals_one(g, inputs):
    ws, noise = inputs
    z1 = {k: torch.randn(3, *g.cut_shape(k), generator=seeded(1, "z1")).double() for k in (1, 2, 3)}
    at_1 = g.head(ws, noise, 1, z1)
    two = g.advance(g.advance(at_1, ws, noise, 1, 2, z1), ws, noise, 2, 3, z1)
    one = g.advance(at_1, ws, noise, 1, 3, z1)
    assert torch.equal(two.feature, one.feature)
    assert torch.equal(two.rgb, one.rgb)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_zero_z1_changes_nothing_and_other_z1_reaches_both_ways(g, inputs, k):
    ws, noise = inputs
    zero = {k: torch.zeros(3, *g.cut_shape(k)).double()}
    assert torch.equal(g(ws, noise, zero), g(ws, noise))
    moved = {k: torch.ones(3, *g.cut_shape(k)).double()}
    state, plain = g.head(ws, noise, k, moved), g.head(ws, noise, k)
    torch.testing.assert_close(state.feature, plain.feature + 1)
    later = g.advance(state, ws, noise, k, k + 1)
    before = g.advance(plain, ws, noise, k, k + 1)
    assert not torch.allclose(later.rgb, before.rgb)  # through this block's ToRGB
    assert not torch.allclose(later.feature, before.feature)  # through the next block


def test_samples_do_not_see_each_other(g, inputs):
    ws, noise = inputs
    alone = g(ws[1:2], [n[1:2] for n in noise])
    torch.testing.assert_close(g(ws, noise)[1:2], alone, rtol=1e-12, atol=1e-12)


def test_bfloat16_computes_close_and_returns_float32(g, inputs):
    g = g.float()
    ws, noise = inputs[0].float(), [n.float() for n in inputs[1]]
    exact = g(ws, noise)
    with g.computing_in(torch.bfloat16):
        fast = g(ws, noise)
    assert g.compute_dtype is None
    assert fast.dtype == torch.float32
    error = (fast - exact).norm() / exact.norm()
    assert 0 < error < 0.02


def test_shapes_of_the_contract(g):
    assert g.num_ws == 8
    assert g.noise_shapes() == [(1, s, s) for s in (4, 8, 8, 16, 16, 32, 32)]
    assert [list(g.noise_of_block(b)) for b in range(4)] == [[0], [1, 2], [3, 4], [5, 6]]
    assert [g.cut_shape(k) for k in (1, 4)] == [(12, 4, 4), (6, 32, 32)]
    clone = StyleGAN2Generator(**g.config)
    assert {k: v.shape for k, v in clone.state_dict().items()} == {k: v.shape for k, v in g.state_dict().items()}


@pytest.mark.parametrize("k", [0, 5])
def test_no_such_cut(g, k):
    with pytest.raises(UserError, match=r"cuts 1\.\.4"):
        g.cut_shape(k)


@pytest.mark.parametrize("resolution", [4, 24, 0])
def test_resolution_out_of_range(resolution):
    with pytest.raises(UserError, match="power of two"):
        StyleGAN2Generator(resolution)


def test_channel_table_with_a_hole():
    with pytest.raises(UserError, match="side 8"):
        StyleGAN2Generator(16, {4: 8, 16: 8})
