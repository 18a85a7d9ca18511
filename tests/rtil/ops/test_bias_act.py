import json

import pytest
import torch
from safetensors import safe_open

from rtil.ops import bias_act, no_weight_gradients
from tests.rtil.ops.helpers import LAYOUTS, TYPES, assert_close_to_ref, draw, lay

WITHIN = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 0.02 / 8, torch.bfloat16: 0.02}
SETTINGS = [{}, {"act": "linear"}, {"gain": 1.7}]


def test_equals_the_published_reference(shared, tier):
    """Values, and gradients of first and second order, of the cases with our activations."""
    with safe_open(shared / "golden" / "ops_reference.safetensors", "pt") as file:
        cases = [c for c in json.loads(file.metadata()["cases"]) if c["op"] == "bias_act" and c["dim"] == 1]
        cases = [c for c in cases if c["act"] in ("linear", "lrelu") and c["clamp"] is None]
        assert {c["act"] for c in cases} == {"linear", "lrelu"}
        for case in cases:

            def load(key: str, case=case) -> torch.Tensor:
                return file.get_tensor(f"bias_act.{case['id']}.{key}").double()

            x, b, dy, ddx = (load(key).requires_grad_() for key in ("x", "b", "dy", "ddx"))
            y = bias_act(x, b, case["act"], case["gain"])
            dx, db = torch.autograd.grad(y, (x, b), dy, create_graph=True)
            for ours, key in ((y, "y"), (dx, "dx"), (db, "db")):
                torch.testing.assert_close(ours.detach(), load(key), rtol=1e-6, atol=1e-6)
            (second,) = torch.autograd.grad(dx, dy, ddx)
            moved = bias_act(x + 1e-6 * ddx, b, case["act"], case["gain"])
            torch.testing.assert_close(second, (moved - y) / 1e-6, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_tiers_agree_to_second_order(fast, settings, layout, dtype):
    x, b = lay(draw(2, 19, 3, 5).to(dtype), layout), draw(19, seed=1).to(torch.promote_types(dtype, torch.float32))
    b = b + 4 * b.sign()  # far from the kink, which rounding would cross
    assert_close_to_ref(lambda x, b: bias_act(x, b, **settings), x, b, within=WITHIN[dtype])


@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_gradients_of_first_and_second_order(tier, settings, shape):
    x, b = draw(*shape).requires_grad_(), draw(shape[1], seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, b: bias_act(x, b, **settings), (x, b))
    assert torch.autograd.gradgradcheck(lambda x, b: bias_act(x, b, **settings), (x, b))
    assert torch.autograd.gradcheck(lambda x: bias_act(x, None, **settings), x)


def test_at_the_kink_the_gradient_is_the_lower_one(tier):
    x = torch.tensor([[[[0.0, -0.0, 0.5, -2.5, 9.0]]]], dtype=torch.float64).requires_grad_()
    (g,) = torch.autograd.grad(bias_act(x, torch.zeros(1), gain=1).sum(), x)
    assert g.flatten().tolist() == [0.2, 0.2, 1, 0.2, 1]


def test_without_weight_gradients_the_gradient_of_the_map_is_the_same(ext):
    x, b = draw(2, 3, 4, 5).requires_grad_(), draw(3).requires_grad_()
    (whole,) = torch.autograd.grad(bias_act(x, b).square().sum(), x)
    y = bias_act(x, b).square().sum()
    with no_weight_gradients():
        g, none = torch.autograd.grad(y, (x, b), allow_unused=True)
    assert torch.equal(g, whole)
    assert none is None
