from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import vgg16

from rtil.errors import UserError
from rtil.inverse.perceptual import Perceptual, is_picture
from rtil.weights.backbones import find_backbone

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
NAMES = ["vgg", "lpips"]


@pytest.fixture(autouse=True)
def _backbone() -> None:
    if find_backbone("vgg") is None:
        pytest.skip("needs the weights of VGG16: rtil weights lpips")


def pictures(seed: int, n: int = 2, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_vgg_is_torchvisions_relu3_3() -> None:
    weights = find_backbone("vgg")
    assert weights is not None
    with torch.device("meta"):
        features = vgg16(weights=None).features
    features.load_state_dict({k.removeprefix("features."): v for k, v in weights.items()}, assign=True)
    features = features[:16].eval()
    x, reference = pictures(0), pictures(1)
    with torch.no_grad():
        ours, theirs = (features((p - MEAN) / STD) for p in (x, reference))
    expected = 0.001 * (ours - theirs).abs().mean((1, 2, 3))
    torch.testing.assert_close(Perceptual("vgg").distance(x, reference), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["noisy", "pixelated"])
def test_lpips_equals_the_reference_values(kind: str, shared: Path) -> None:
    golden = load_file(shared / "golden/lpips.safetensors")
    x, reference = ((golden[f"in.{name}"] + 1) / 2 for name in (kind, "a"))
    got = Perceptual("lpips").distance(x, reference)
    torch.testing.assert_close(got, golden[f"out.vgg.{kind}"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_equal_pictures_are_at_distance_zero_and_mates_do_not_matter(name) -> None:
    perceptual, x, reference = Perceptual(name), pictures(0, 3), pictures(1, 3)
    assert perceptual.distance(x, x.clone()).abs().max() < 1e-9
    together = perceptual.distance(x, reference)
    assert together.shape == (3,)
    alone = torch.cat([perceptual.distance(x[i : i + 1], reference[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_going_down_the_gradient_comes_nearer(name) -> None:
    perceptual = Perceptual(name)
    x, reference = pictures(0).requires_grad_(), pictures(1)
    before = perceptual.distance(x, reference)
    (gradient,) = torch.autograd.grad(before.sum(), x)
    assert not any(p.requires_grad for p in perceptual.parameters())
    step = 0.5 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert (perceptual.distance(x - step, reference) < before).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_that_wants_a_gradient_gets_its_own(name) -> None:
    perceptual, x = Perceptual(name), pictures(0).requires_grad_()
    other = pictures(1).requires_grad_()
    ours, theirs = torch.autograd.grad(perceptual.distance(x, other).sum(), [x, other])
    swapped = torch.autograd.grad(perceptual.distance(other, x).sum(), [x, other])  # both distances are symmetric
    torch.testing.assert_close(ours, swapped[0], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(theirs, swapped[1], rtol=1e-3, atol=1e-7)
    assert theirs.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_flat_pictures_have_finite_gradients(name) -> None:
    for value in (0.0, 0.5, 1.0):
        x = torch.full((1, 3, 16, 16), value, requires_grad=True)
        (gradient,) = torch.autograd.grad(Perceptual(name).distance(x, pictures(0, 1, 16, 16)).sum(), x)
        assert gradient.isfinite().all()


def test_features_of_a_reference_are_kept_until_it_changes(monkeypatch) -> None:
    perceptual, x, reference = Perceptual("vgg"), pictures(0), pictures(1)
    run, runs = perceptual._features, []
    monkeypatch.setattr(perceptual, "_features", lambda p: runs.append(0) or run(p))
    first = perceptual.distance(x, reference)
    assert torch.equal(perceptual.distance(x, reference), first)
    assert len(runs) == 3
    reference.copy_(pictures(2))
    changed = perceptual.distance(x, reference)
    assert torch.equal(changed, perceptual.distance(x, pictures(2)))
    assert not torch.equal(changed, first)


@pytest.mark.parametrize("name", NAMES)
def test_luma_is_compared_as_a_grey_picture(name) -> None:
    perceptual, x, reference = Perceptual(name), pictures(0)[:, :1], pictures(1)[:, :1]
    grey = perceptual.distance(x.repeat(1, 3, 1, 1), reference.repeat(1, 3, 1, 1))
    assert torch.equal(perceptual.distance(x, reference), grey)


def test_large_pictures_are_shrunk_to_256_pixels() -> None:
    perceptual, x, reference = Perceptual("vgg"), pictures(0, 1, 64, 512), pictures(1, 1, 64, 512)
    small = [F.interpolate(p, (32, 256), mode="bilinear", antialias=True) for p in (x, reference)]
    torch.testing.assert_close(perceptual.distance(x, reference), perceptual.distance(*small), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_layers_come_near(name) -> None:
    x, reference = pictures(0), pictures(1)
    exact, low = (Perceptual(name, dtype).distance(x, reference) for dtype in (torch.float32, torch.bfloat16))
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    torch.testing.assert_close(low, exact, rtol=2e-2, atol=0)


@pytest.mark.parametrize(("name", "least"), [("vgg", 4), ("lpips", 16)])
def test_the_smallest_side(name, least: int) -> None:
    perceptual = Perceptual(name)
    assert perceptual.distance(pictures(0, 1, least, 40), pictures(1, 1, least, 40)).isfinite().all()
    with pytest.raises(UserError, match=rf"at least {least} pixels a side, but the measurements are {least - 1}x40"):
        perceptual.distance(pictures(0, 1, least - 1, 40), pictures(1, 1, least - 1, 40))


def test_mistakes_are_named(monkeypatch) -> None:
    with pytest.raises(UserError, match=r"unknown perceptual term 'lpip'.*did you mean 'lpips'"):
        Perceptual("lpip")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"one shape \[N, 3 or 1, H, W\]: got \[2, 3, 32, 32\] and \[1, 3, 32, 32\]"):
        Perceptual("vgg").distance(pictures(0), pictures(0, 1))
    monkeypatch.setattr("rtil.inverse.perceptual.find_backbone", lambda net: None)
    monkeypatch.setattr("rtil.inverse.perceptual.load_lpips", lambda net: None)
    for name in ("vgg", "lpips"):
        with pytest.raises(UserError, match=r"rtil weights lpips"):
            Perceptual(name)  # type: ignore[arg-type]


def test_what_counts_as_a_picture() -> None:
    assert is_picture((3, 8, 8))
    assert is_picture((1, 8, 8))
    assert not is_picture((307,))
    assert not is_picture((2, 8, 8))
