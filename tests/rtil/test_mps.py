"""Apple's GPU computes what the CPU does, up to float32's rounding; what needs float64 is computed on the CPU."""

import copy

import pytest
import torch

from ilo import ILO
from rtil.generators import StyleGAN2Generator
from rtil.inverse.l1_ball import project_l1
from rtil.inverse.operators import make_operator
from rtil.ops.counter import counter_normal
from rtil.training.config import StyleGAN2Config
from rtil.training.run import train

DEVICE = torch.device("mps")
CHANNELS = {4: 8, 8: 8, 16: 8}

pytestmark = pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs Apple's GPU (mps)")


@pytest.fixture
def generators():
    """One generator, on the CPU and on the GPU."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        here = StyleGAN2Generator(16, CHANNELS, z_dim=16, w_dim=16, mapping_layers=2).eval()
    return here, copy.deepcopy(here).to(DEVICE)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_pictures_and_gradients(generators):
    outcomes = []
    for G in generators:
        ws = G.mapping(draw(2, 16).to(G.device)).detach().requires_grad_()
        noise = [n.to(G.device) for n in generators[0].draw_noise(2, torch.Generator().manual_seed(1))]
        x = G.tail(G.head(ws, noise, 1), ws, noise, 1)
        x.square().mean().backward()
        outcomes.append((x.detach().cpu(), ws.grad.cpu()))
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-3, atol=1e-4)


def test_what_needs_float64():
    t, radius = draw(3, 500), torch.tensor([0.5, 5.0, 1e6])
    torch.testing.assert_close(project_l1(t.to(DEVICE), radius.to(DEVICE)).cpu(), project_l1(t, radius))
    assert torch.equal(counter_normal((3, 5), 7, DEVICE).cpu(), counter_normal((3, 5), 7))


@pytest.mark.parametrize(
    ("task", "level"),
    [
        ("cs", {"rate": 0.1}),
        ("inpaint", {"rate": 0.1}),
        ("sr", {"factor": 4}),
        ("colorize", {"noise_sigma": 0.1}),
        ("colorize", {}),
        ("blur", {"width": 2}),
        ("fourier", {"rate": 0.25}),
        ("phase", {"exposures": 2}),
    ],
)
def test_operators(task, level):
    here = make_operator(task, (3, 16, 16), **level)
    there = copy.deepcopy(here).to(DEVICE)
    x = draw(2, 3, 16, 16).sigmoid()
    y = here.A(x)
    torch.testing.assert_close(there.A(x.to(DEVICE)).cpu(), y, rtol=1e-3, atol=1e-4)
    closer = there.consistent(0.5 * x.to(DEVICE), y.to(DEVICE)).cpu()
    torch.testing.assert_close(closer, here.consistent(0.5 * x, y), rtol=1e-3, atol=1e-4)


def test_an_inversion(generators):
    operator = make_operator("inpaint", (3, 16, 16), rate=0.5)
    y = operator(draw(2, 3, 16, 16).sigmoid())
    found = [ILO(G, steps=[3, 3]).invert(y.to(G.device), copy.deepcopy(operator).to(G.device)).x for G in generators]
    torch.testing.assert_close(found[1].cpu(), found[0], rtol=0.02, atol=0.02)


def test_a_training_runs(tmp_path, make_pictures):
    data = str(make_pictures(tmp_path / "faces", 12, 16))
    small = {"resolution": 16, "channels": CHANNELS, "z_dim": 16, "w_dim": 16, "batch": 4, "kimg": 0.016}
    train(StyleGAN2Config(data=data, device="mps", **small), tmp_path / "run")
    assert list((tmp_path / "run").glob("snapshot-*.safetensors"))
