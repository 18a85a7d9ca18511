import pytest
import torch
import torch.nn.functional as F

from rtil.ops import upsample_bilinear2d
from rtil.seeds import generator as seeded


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 2, 1, 1), (1, 2, 3, 5)])
@pytest.mark.parametrize("tier", ["ref", "native"])
def test_equals_interpolation_with_gradients(shape, tier, monkeypatch):
    monkeypatch.setenv("RTIL_OPS", tier)
    x = torch.randn(shape, generator=seeded(0, "test")).double().requires_grad_()
    theirs = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample_bilinear2d(x), theirs)
    ours, expected = (
        torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)[0] for y in (upsample_bilinear2d(x), theirs)
    )
    torch.testing.assert_close(ours, expected)
    assert torch.autograd.gradgradcheck(upsample_bilinear2d, x)
