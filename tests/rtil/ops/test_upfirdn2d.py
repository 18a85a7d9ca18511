import json

import pytest
import torch
from safetensors import safe_open

from rtil.errors import UserError
from rtil.ops import downsample2d, fir_filter, upfirdn2d, upsample2d
from rtil.ops.plan import Plan, after_up_convolution
from tests.rtil.ops.helpers import LAYOUTS, TYPES, assert_close_to_ref, draw, lay

PLANS = [
    {"padding": 1},
    {"up": 2, "padding": (2, 1, 2, 1), "gain": 4},
    {"down": 2, "padding": 1, "flip": True},
    {"up": 2, "down": 2, "padding": (3, 0, -1, 4)},
    {"up": (2, 1), "down": (1, 2), "padding": (-1, 2, 0, 3), "flip": True, "gain": 1.5},
]
WITHIN = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 0.01 / 8, torch.bfloat16: 0.01}


def test_equals_the_published_reference(shared, tier):
    with safe_open(shared / "golden" / "ops_reference.safetensors", "pt") as file:
        cases = [case for case in json.loads(file.metadata()["cases"]) if case["op"] == "upfirdn2d"]
        assert len(cases) == 18
        for case in cases:
            name = f"upfirdn2d.{case['id']}"
            x, y = file.get_tensor(f"{name}.x"), file.get_tensor(f"{name}.y")
            f = file.get_tensor(f"filter.{case['filter']}").double()
            up, down = (tuple(case[k]) if isinstance(case[k], list) else case[k] for k in ("up", "down"))
            ours = upfirdn2d(x.double(), f, up, down, tuple(case["pad"]), case["flip"], case["gain"])
            torch.testing.assert_close(ours, y, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (1, 17, 8, 5)])
@pytest.mark.parametrize("plan", PLANS)
def test_tiers_agree_to_second_order(fast, plan, shape, layout, dtype):
    f = fir_filter((1, 2, 4, 1))
    x = lay(draw(*shape).to(dtype), layout)
    assert_close_to_ref(lambda x: upfirdn2d(x, f, **plan), x, within=WITHIN[dtype])
    y = upfirdn2d(x, f, **plan)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last if layout == "NHWC" else torch.contiguous_format)


@pytest.mark.parametrize("taps", [(1, 2, 4, 1), (1, 3, 2, 5, 4, 1, 0, 2, 7)])
@pytest.mark.parametrize("plan", PLANS)
def test_taps_are_their_outer_product(tier, plan, taps):
    f, x = fir_filter(taps).double(), draw(2, 3, 9, 8)
    torch.testing.assert_close(upfirdn2d(x, f, **plan), upfirdn2d(x, f[:, None] * f, **plan), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("plan", PLANS)
def test_gradients_of_first_and_second_order(tier, plan):
    x, f = draw(1, 2, 5, 6).requires_grad_(), fir_filter((1, 2, 4, 1)).double()
    assert torch.autograd.gradcheck(lambda x: upfirdn2d(x, f, **plan), x)
    assert torch.autograd.gradgradcheck(lambda x: upfirdn2d(x, f, **plan), x)


def test_the_adjoint_of_the_adjoint_is_the_plan_itself():
    f = fir_filter()
    plan = Plan((2, 1), (1, 2), (2, 1, 0, 3), flip=False, gain=2)
    assert plan.adjoint(7, 5, f).adjoint(*plan.output_size(7, 5, f), f) == plan


@pytest.mark.parametrize("taps", [2, 3, 4, 5, 6])
def test_the_filter_behind_an_up_convolution_leaves_an_even_map(taps):
    assert after_up_convolution(taps).output_size(9, 5, torch.ones(taps)) == (8, 4)


def test_up_and_down_keep_a_constant(tier):
    x = torch.ones(1, 1, 8, 8)
    torch.testing.assert_close(upsample2d(x, fir_filter())[..., 4:-4, 4:-4], torch.ones(1, 1, 8, 8))
    torch.testing.assert_close(downsample2d(x, fir_filter())[..., 1:-1, 1:-1], torch.ones(1, 1, 2, 2))


def test_map_smaller_than_the_filter():
    with pytest.raises(UserError, match="smaller than"):
        upfirdn2d(torch.ones(1, 1, 2, 2), fir_filter())
