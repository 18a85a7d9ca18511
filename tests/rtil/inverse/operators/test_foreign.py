"""Operators of other libraries at the door of ``invert``."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ilo import CSGM, ILO
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.operators import make_operator
from rtil.inverse.operators.foreign import ForeignOperator, as_operator, packed

SIZE = (3, 16, 16)


class OnlyA:
    def A(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., ::2] ** 2


@pytest.fixture
def generator(cache: Path) -> StyleGAN2Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleGAN2Generator(16, {4: 4, 8: 4, 16: 4}, z_dim=8, w_dim=8, mapping_layers=1)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))


def test_our_own_are_as_they_are(x: torch.Tensor) -> None:
    operator = make_operator("inversion", SIZE)
    assert as_operator(operator, x, 16) is operator


def test_of_a_foreign_one_all_entries_count(x: torch.Tensor) -> None:
    y = OnlyA().A(x.flip(0))
    operator = as_operator(OnlyA(), y, 16)
    assert operator.error(x, y).allclose(4 * (OnlyA().A(x) - y).square().flatten(1).mean(1))
    assert operator.observed.all()
    assert (operator.img_size, operator.measurement_shape) == (SIZE, (3, 16, 8))
    v = torch.rand_like(y)
    (gradient,) = torch.autograd.grad((OnlyA().A(x.requires_grad_()) * v).sum(), x)
    assert torch.allclose(operator.A_vjp(x, v), gradient)


def test_a_module_of_theirs_is_left_where_it_is(x: torch.Tensor) -> None:
    theirs = torch.nn.Conv2d(3, 3, 1)
    theirs.A = theirs.forward  # type: ignore[assignment]
    assert not list(ForeignOperator(theirs, x, 16).parameters())


@pytest.mark.parametrize("name", ["Blur", "BlurFFT", "Downsampling", "Denoising", "Inpainting", "TomographyLike"])
def test_deepinvs_physics_are_inverted(name: str, generator: StyleGAN2Generator, x: torch.Tensor) -> None:
    physics = pytest.importorskip("deepinv").physics
    kernel = torch.ones(1, 1, 3, 3) / 9
    made: Any = {
        "Blur": lambda: physics.Blur(filter=kernel, padding="circular"),
        "BlurFFT": lambda: physics.BlurFFT(img_size=SIZE, filter=kernel),
        "Downsampling": lambda: physics.Downsampling(filter="bicubic", factor=2),
        "Denoising": lambda: physics.Denoising(physics.GaussianNoise(0.1)),
        "Inpainting": lambda: physics.Inpainting(img_size=SIZE, mask=0.5),
        "TomographyLike": lambda: physics.LinearPhysics(A=lambda x, **_: x.sum(2), A_adjoint=lambda y, **_: y),
    }[name]()
    found = ILO(generator, steps=(6, 3), lr=0.3, geodesic_weight=0).invert(made(x), made)
    assert (found.score < found.history["measurement"][:, 0]).all()


def test_what_cannot_be_inverted_is_told(generator: StyleGAN2Generator, x: torch.Tensor) -> None:
    class Larger(OnlyA):
        img_size = (3, 32, 32)

    class Anything:
        pass

    for operator, words in (
        (Larger(), r"measures pictures \(3, 32, 32\) but the generator's are \(3, 16, 16\)"),
        (Anything(), "operator is Anything, which has no method A"),
        (OnlyA(), r"operator OnlyA measures \[2, 3, 16, 8\] of .* but y is \[N, 3, 16, 16\]: give the operator that"),
    ):
        with pytest.raises(UserError, match=words) as error:
            CSGM(generator, steps=1).invert(x, operator)
        assert "\n" not in str(error.value)


def test_a_mask_of_theirs_has_the_error_of_ours(x: torch.Tensor) -> None:
    physics = pytest.importorskip("deepinv").physics
    ours = make_operator("inpaint", SIZE, rate=0.3)
    theirs = physics.Inpainting(img_size=SIZE, mask=ours.mask.float()[None])
    y = theirs(x)
    wrapped = as_operator(theirs, y, 16)
    assert torch.equal(wrapped.observed, ours.observed)
    torch.testing.assert_close(wrapped.error(x.flip(0), y), ours.error(x.flip(0), y))


def test_complex_entries_count_once_by_their_modulus(x: torch.Tensor) -> None:
    class Spectrum:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft2(x, norm="ortho")

    wrapped = as_operator(Spectrum(), packed(Spectrum().A(x)), 16)
    expected = 4 * (x - x.flip(0)).square().flatten(1).mean(1)  # Parseval
    torch.testing.assert_close(wrapped.error(x.flip(0), packed(Spectrum().A(x))), expected)


def test_lists_are_inverted_a_batch_at_a_time(generator: StyleGAN2Generator, x: torch.Tensor) -> None:
    physics = pytest.importorskip("deepinv").physics
    stacked = physics.Denoising().stack(physics.Downsampling(filter="bicubic", factor=2))
    y = stacked(x)
    both = CSGM(generator, steps=2, selection="heldout").invert(y, stacked)
    each = CSGM(generator, steps=2, selection="heldout", batch_size=1).invert(y, stacked)
    torch.testing.assert_close(both.x, each.x, atol=1e-4, rtol=0)


def test_known_noise_is_that_of_denoising(x: torch.Tensor) -> None:
    physics = pytest.importorskip("deepinv").physics
    for noise, sigma, label in (
        (physics.GaussianNoise(0.1), 0.1, "Denoising, noise 0.1"),
        (physics.PoissonNoise(0.1), 0.0, "Denoising"),
    ):
        wrapped = as_operator(physics.Denoising(noise), x, 16)
        assert wrapped.is_identity
        assert wrapped.noise_model.sigma == pytest.approx(sigma)
        assert wrapped.label == label
    assert not as_operator(OnlyA(), OnlyA().A(x), 16).is_identity


def test_an_error_inside_and_a_result_without_gradient_are_told(x: torch.Tensor) -> None:
    class OneChannel:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(x, torch.ones(1, 1, 3, 3))

    class Rounded:
        def A(self, x: torch.Tensor) -> torch.Tensor:
            return x > 0.5

    with pytest.raises(UserError, match=r"OneChannel cannot measure pictures \[2, 3, 16, 16\] .*Adapted"):
        as_operator(OneChannel(), x, 16)
    with pytest.raises(UserError, match="Rounded has no gradient"):
        as_operator(Rounded(), x, 16)
    with pytest.raises(UserError, match="measurements are dict"):
        packed({})
