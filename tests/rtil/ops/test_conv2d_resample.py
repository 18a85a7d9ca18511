import pytest
import torch

from rtil.errors import UserError
from rtil.ops import conv2d_resample, downsample2d, fir_filter, upsample2d
from tests.rtil.ops.helpers import CONVOLUTIONS_WITHIN, LAYOUTS, TYPES, assert_close_to_ref, draw, lay


@pytest.mark.parametrize(("up", "down", "resample"), [(2, 1, upsample2d), (1, 2, downsample2d)])
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 5, 10, 10, 5, 1)])
def test_both_orders_are_one_operation(tier, up, down, resample, taps):
    """A 3x3 kernel that is zero but for its centre is the 1x1 kernel; that one commutes with the filter."""
    fir, x, w = fir_filter(taps).double(), draw(2, 3, 6, 8), draw(4, 3, 1, 1, seed=1)
    small = conv2d_resample(x, w, fir, up, down)
    torch.testing.assert_close(small, resample(torch.einsum("oi,nihw->nohw", w[:, :, 0, 0], x), fir))
    wide = torch.nn.functional.pad(w, (1, 1, 1, 1))
    torch.testing.assert_close(conv2d_resample(x, wide, fir, up, down), small)


def test_without_resampling_it_is_a_convolution():
    x, w = draw(2, 3, 5, 4), draw(4, 3, 3, 3, seed=1)
    torch.testing.assert_close(conv2d_resample(x, w, fir_filter()), torch.nn.functional.conv2d(x, w, padding=1))


@pytest.mark.parametrize(("up", "down"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_gradients_of_first_and_second_order(tier, up, down, kernel):
    fir, x, w = fir_filter().double(), draw(1, 2, 4, 4).requires_grad_(), draw(2, 2, kernel, kernel).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: conv2d_resample(x, w, fir, up, down), (x, w))
    assert torch.autograd.gradgradcheck(lambda x, w: conv2d_resample(x, w, fir, up, down), (x, w))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("up", "down"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_tiers_agree_to_second_order(fast, up, down, kernel, layout, dtype):
    x, w = lay(draw(2, 6, 6, 8).to(dtype), layout), draw(6, 6, kernel, kernel, seed=1).to(dtype)
    within = CONVOLUTIONS_WITHIN[dtype]
    assert_close_to_ref(lambda x, w: conv2d_resample(x, w, fir_filter(), up, down), x, w, within=within)


def test_another_factor_is_refused():
    with pytest.raises(UserError, match="up 2, down 2"):
        conv2d_resample(draw(1, 1, 4, 4), draw(1, 1, 3, 3), fir_filter(), 2, 2)
