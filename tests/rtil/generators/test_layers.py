import pytest
import torch
import torch.nn.functional as F

from rtil.generators.layers import EqualConv2d
from rtil.ops import downsample2d, fir_filter
from tests.rtil.ops.helpers import CONVOLUTIONS_WITHIN, LAYOUTS, TYPES, assert_close_to_ref, draw, lay


def halving(kernel, w, fir):
    """The convolution alone: no bias, gains of 1."""
    layer = EqualConv2d(w.shape[1], w.shape[0], kernel, fir=fir, bias=False, act="linear").to(w.dtype)
    layer.weight = torch.nn.Parameter(w / layer.scale)
    return layer


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 5, 10, 10, 5, 1)])
def test_both_orders_of_filter_and_convolution_are_one_operation(tier, taps):
    """A 3x3 kernel that is zero but for its centre is the 1x1 kernel; that one commutes with the filter."""
    fir, x, w = fir_filter(taps).double(), draw(2, 3, 6, 8), draw(4, 3, 1, 1, seed=1)
    small = halving(1, w, fir)(x)
    torch.testing.assert_close(small, downsample2d(torch.einsum("oi,nihw->nohw", w[:, :, 0, 0], x), fir))
    torch.testing.assert_close(halving(3, F.pad(w, (1, 1, 1, 1)), fir)(x), small)


@pytest.mark.parametrize("kernel", [1, 3])
def test_gradients_of_first_and_second_order(tier, kernel):
    layer = halving(kernel, draw(2, 2, kernel, kernel), fir_filter().double())
    x = draw(1, 2, 4, 4).requires_grad_()

    def run(x, w):
        return torch.func.functional_call(layer, {"weight": w}, x)

    assert torch.autograd.gradcheck(run, (x, layer.weight))
    assert torch.autograd.gradgradcheck(run, (x, layer.weight))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", [1, 3])
def test_tiers_agree_to_second_order(fast, kernel, layout, dtype):
    x, w = lay(draw(2, 6, 6, 8).to(dtype), layout), draw(6, 6, kernel, kernel, seed=1).to(dtype)
    layer = halving(kernel, w, fir_filter())
    within = CONVOLUTIONS_WITHIN[dtype]
    assert_close_to_ref(lambda x, w: torch.func.functional_call(layer, {"weight": w}, x), x, w, within=within)
