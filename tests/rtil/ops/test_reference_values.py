import json

import pytest
import torch
from safetensors import safe_open

from rtil.errors import UserError
from rtil.ops import bias_act, downsample2d, fir_filter, upfirdn2d, upsample2d


@pytest.mark.parametrize("tier", ["ref", "native"])
def test_upfirdn2d_equals_the_published_reference(shared, monkeypatch, tier):
    monkeypatch.setenv("RTIL_OPS", tier)
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


def test_bias_act_equals_the_published_reference(shared):
    """Values, and gradients of first and second order, of the cases with our activations and no clamp."""
    with safe_open(shared / "golden" / "ops_reference.safetensors", "pt") as file:
        cases = [c for c in json.loads(file.metadata()["cases"]) if c["op"] == "bias_act" and c["clamp"] is None]
        cases = [c for c in cases if c["act"] in ("linear", "lrelu") and c["dim"] == 1]
        assert cases
        for case in cases:
            x, b, dy, ddx = (file.get_tensor(f"bias_act.{case['id']}.{k}").double() for k in ("x", "b", "dy", "ddx"))
            x.requires_grad_()
            b.requires_grad_()
            dy.requires_grad_()
            y = bias_act(x, b, case["act"], case["gain"])
            dx, db = torch.autograd.grad(y, (x, b), dy, create_graph=True)
            for ours, key in ((y, "y"), (dx, "dx"), (db, "db")):
                torch.testing.assert_close(ours.detach(), file.get_tensor(f"bias_act.{case['id']}.{key}"))
            (second,) = torch.autograd.grad(dx, dy, ddx)
            torch.testing.assert_close(
                second, bias_act(x + 1e-6 * ddx, b, case["act"], case["gain"]).sub(y) / 1e-6, rtol=1e-6, atol=1e-6
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [5, 8])
@pytest.mark.parametrize(
    ("up", "down", "pad"), [(1, 1, 1), (2, 1, (2, 1, 2, 1)), (1, 2, 1), (2, 2, (3, 0, -1, 4)), (1, 1, (-1, 2, 0, 1))]
)
def test_tiers_agree(monkeypatch, dtype, size, up, down, pad):
    x = torch.randn(2, 3, size, size + 1, generator=torch.Generator().manual_seed(0)).to(dtype)
    f = fir_filter((1, 2, 4, 1))
    fast = upfirdn2d(x, f, up, down, pad, gain=3)
    monkeypatch.setenv("RTIL_OPS", "ref")
    slow = upfirdn2d(x.double(), f, up, down, pad, gain=3)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(fast.double(), slow, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("up", "down", "pad"), [(2, 1, (2, 1, 2, 1)), (1, 2, 1), (2, 2, (3, 2, 1, 0)), (1, 1, (-1, 2, 0, 1))]
)
def test_adjoint_and_second_order(up, down, pad):
    x = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    f = fir_filter((1, 2, 4, 1)).double()
    assert torch.autograd.gradcheck(lambda x: upfirdn2d(x, f, up, down, pad), (x,))
    assert torch.autograd.gradgradcheck(lambda x: upfirdn2d(x, f, up, down, pad), (x,))


def test_up_and_down_keep_a_constant():
    x = torch.ones(1, 1, 8, 8)
    torch.testing.assert_close(upsample2d(x, fir_filter())[..., 4:-4, 4:-4], torch.ones(1, 1, 8, 8))
    torch.testing.assert_close(downsample2d(x, fir_filter())[..., 1:-1, 1:-1], torch.ones(1, 1, 2, 2))


def test_map_smaller_than_the_filter():
    with pytest.raises(UserError, match="smaller than"):
        upfirdn2d(torch.ones(1, 1, 2, 2), fir_filter())
