import pytest
import torch

from rtil.ops import demodulation, energy, modulated_conv2d, weights_to_convolve
from rtil.ops.selftest import using_tier
from tests.rtil.ops.helpers import LAYOUTS, TYPES, assert_close_to_ref, draw, lay

WITHIN = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 0.02 / 8, torch.bfloat16: 0.02}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("up", [False, True])
def test_scaled_maps_equal_scaled_weights(fast, up, layout, dtype):
    wide = torch.promote_types(dtype, torch.float32)
    x, w, s = lay(draw(2, 3, 4, 5).to(dtype), layout), draw(4, 3, 3, 3, seed=1).to(wide), draw(2, 3, seed=2).to(wide)
    assert_close_to_ref(lambda x, w, s: modulated_conv2d(x, w, s, up), x, w, s, within=WITHIN[dtype])


def test_demodulated_channels_have_unit_expected_variance():
    """Over random unit-variance input, every output entry in the middle of the map."""
    w, s = draw(4, 3, 3, 3), draw(2, 3, seed=2)
    y = modulated_conv2d(draw(2, 3, 300, 300, seed=3), w, s) * demodulation(energy(w), s)[:, :, None, None]
    torch.testing.assert_close(y[:, :, 1:-1, 1:-1].var((2, 3)), torch.ones(2, 4).double(), rtol=0.05, atol=0)


def test_demodulation_is_that_of_the_weights_of_every_sample():
    """Karras et al. 2020, equation 3."""
    w, s = draw(4, 3, 3, 3), draw(2, 3, seed=2)
    weights = w * s[:, None, :, None, None]
    torch.testing.assert_close(demodulation(energy(w), s), weights.square().sum((2, 3, 4)).add(1e-8).rsqrt())


def test_the_reference_rounds_no_weights():
    x, w = draw(1, 3, 4, 4).bfloat16(), draw(4, 3, 3, 3).float()
    with using_tier("ref"):
        assert weights_to_convolve(w, x) is w
    with using_tier("native"):
        assert weights_to_convolve(w, x).dtype == x.dtype
