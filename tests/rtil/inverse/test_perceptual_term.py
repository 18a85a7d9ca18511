"""The perceptual term with a stand-in distance: mean absolute difference of neighbouring pixels' sums."""

import pytest
import torch
import torch.nn.functional as F

from rtil import seeds
from rtil.inverse.losses import split_heldout
from rtil.inverse.operators.foreign import as_operator
from rtil.inverse.operators.masks import random_inpainting
from rtil.inverse.operators.resample import Downsampling
from rtil.inverse.perceptual_term import PerceptualTerm
from rtil.inverse.problem import Problem


class Blurred:
    """Sees neighbours together, as a network does."""

    def distance(self, x, reference):
        assert x.shape == reference.shape
        return (F.avg_pool2d(x, 3, 1, 1) - F.avg_pool2d(reference, 3, 1, 1)).abs().flatten(1).mean(1)


class Curved:
    """Sees more than the difference of two pictures."""

    def distance(self, x, reference):
        ours, theirs = (F.avg_pool2d(picture, 3, 1, 1).square() for picture in (x, reference))
        return (ours - theirs).abs().flatten(1).mean(1)


class Grey:
    def A(self, x):
        return x.mean(1, keepdim=True)


def perceptual_error(perceptual, operator, x, y, split=None, mode="mask"):
    return term_of(perceptual, operator, y, split, mode)(x)


def term_of(perceptual, operator, y, split=None, mode="mask"):
    problem = Problem(y, as_operator(operator, y, 16), split, None, ["a", "b"], 0)
    return PerceptualTerm(perceptual, problem, mode)


@pytest.fixture
def pictures():
    rng = seeds.generator(0, "test/pictures")
    return torch.rand(2, 3, 16, 16, generator=rng), torch.rand(2, 3, 16, 16, generator=rng)


def test_measurements_are_compared_as_pictures(pictures):
    x, truth = pictures
    for operator in (Downsampling((3, 16, 16), 2), random_inpainting((3, 16, 16), 0.5)):
        y = operator.A(truth)
        expected = Blurred().distance(operator.A(x), y)
        assert torch.equal(perceptual_error(Blurred(), operator, x, y), expected)
    grey = Grey().A(truth)
    assert torch.equal(perceptual_error(Blurred(), Grey(), x, grey), Blurred().distance(Grey().A(x), grey))


def test_the_reference_stays_one_tensor_so_that_its_features_can_be_kept(pictures):
    x, truth = pictures
    operator, seen = random_inpainting((3, 16, 16), 0.5), []

    class Watching(Blurred):
        def distance(self, x, reference):
            seen.append(reference)
            return super().distance(x, reference)

    term = term_of(Watching(), operator, truth)
    term(x)
    term(x * 0.5)
    assert seen[0] is seen[1]


def test_what_is_not_observed_does_not_matter(pictures):
    x, truth = pictures
    operator = random_inpainting((3, 16, 16), 0.5)
    filled = torch.where(operator.observed, truth, 7.0)
    expected = perceptual_error(Blurred(), operator, x, operator.A(truth))
    assert torch.equal(perceptual_error(Blurred(), operator, x, filled), expected)


def test_what_is_kept_back_cannot_be_seen(pictures):
    x, truth = pictures
    operator = random_inpainting((3, 16, 16), 0.5)
    y = operator.A(truth)
    split = split_heldout(operator, y, 0)
    x.requires_grad_()
    error = perceptual_error(Blurred(), operator, x, y, split)
    (gradient,) = torch.autograd.grad(error.sum(), x)
    kept_back = (split.heldout > 0).expand_as(y)
    assert (gradient[kept_back] == 0).all()
    assert (gradient[operator.observed.expand_as(y) & ~kept_back] != 0).any()
    other = torch.where(kept_back, 1 - y, y)
    assert torch.equal(perceptual_error(Blurred(), operator, x, other, split), error)
    assert not torch.equal(perceptual_error(Blurred(), operator, x, other), perceptual_error(Blurred(), operator, x, y))


def test_gaps_are_filled_with_generated_pixels(pictures):
    x, truth = pictures
    operator = random_inpainting((3, 16, 16), 0.5)
    y = operator.A(truth)
    superimposed = torch.where(operator.observed, y, x)  # equation 3: M I + M^C G(z)
    expected = Curved().distance(superimposed, x)
    assert torch.equal(perceptual_error(Curved(), operator, x, y, mode="fill"), expected)
    assert not torch.allclose(expected, perceptual_error(Curved(), operator, x, y))


def test_the_filled_in_pixels_pass_the_gradient_on(pictures):
    x, truth = pictures
    operator = random_inpainting((3, 16, 16), 0.5)
    y = operator.A(truth)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(perceptual_error(Curved(), operator, x, y, mode="fill").sum(), x)
    by_hand = Curved().distance(torch.where(operator.observed, y, x), x)
    (expected,) = torch.autograd.grad(by_hand.sum(), x)
    torch.testing.assert_close(gradient, expected)
    one_sided = Curved().distance(torch.where(operator.observed, y, x.detach()), x)
    assert not torch.allclose(torch.autograd.grad(one_sided.sum(), x)[0], expected)


def test_without_gaps_both_modes_are_one(pictures):
    x, truth = pictures
    for operator in (Downsampling((3, 16, 16), 2), Grey()):
        y = operator.A(truth)
        filled = term_of(Curved(), operator, y, mode="fill")
        assert torch.equal(filled(x), perceptual_error(Curved(), operator, x, y))
        assert not filled.fills, "so that the features of the reference are kept"


@pytest.mark.parametrize("complete", [True, False])
def test_what_is_kept_back_is_a_gap_too(pictures, complete):
    x, truth = pictures
    operator = Downsampling((3, 16, 16), 2) if complete else random_inpainting((3, 16, 16), 0.5)
    y = operator.A(truth)
    split = split_heldout(operator, y, 0)
    kept_back = (split.heldout > 0).expand_as(y)
    error = perceptual_error(Curved(), operator, x, y, split, "fill")
    other = torch.where(kept_back, 1 - y, y)
    assert torch.equal(perceptual_error(Curved(), operator, x, other, split, "fill"), error)
    generated = operator.A(x) if complete else x
    observed = operator.observed.expand_as(y) & ~kept_back
    expected = Curved().distance(generated, torch.where(observed, y, generated))
    torch.testing.assert_close(error, expected)
