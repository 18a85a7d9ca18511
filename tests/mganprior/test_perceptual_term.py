"""The perceptual term with a stand-in distance: mean absolute difference of neighbouring pixels' sums."""

import pytest
import torch
import torch.nn.functional as F

from mganprior import MGANPrior
from mganprior.perceptual_term import PerceptualTerm
from rtil import seeds
from rtil.errors import UserError
from rtil.inverse.losses import split_heldout
from rtil.inverse.operators.circulant import PartialCirculant
from rtil.inverse.operators.masks import random_inpainting
from rtil.inverse.operators.resample import Downsampling


class Blurred:
    """Sees neighbours together, as a network does."""

    def distance(self, x, reference):
        assert x.shape == reference.shape
        return (F.avg_pool2d(x, 3, 1, 1) - F.avg_pool2d(reference, 3, 1, 1)).abs().flatten(1).mean(1)


class Grey:
    def A(self, x):
        return x.mean(1, keepdim=True)


def perceptual_error(perceptual, operator, x, y, split=None):
    return PerceptualTerm(perceptual, operator, y, split)(x)


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

    term = PerceptualTerm(Watching(), operator, truth, None)
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


def test_the_term_enters_the_objective(planted):
    G, operator, x = planted
    options = {"steps": 15, "codes": 3, "seed": 1, "selection": "last"}
    plain = MGANPrior(G, **options).invert(x, operator)
    both = MGANPrior(G, **options, perceptual=Blurred(), perceptual_weight=5.0).invert(x, operator)
    history = both.history
    assert torch.allclose(history["loss"], history["measurement"] + 5 * history["perceptual"])
    assert torch.allclose(history["measurement"][:, 0], plain.history["measurement"][:, 0])
    assert not torch.allclose(both.x, plain.x, atol=1e-3)
    start = MGANPrior(G, **{**options, "steps": 0}).invert(x, operator).x
    assert torch.allclose(history["perceptual"][:, 0], Blurred().distance(start, x), atol=0.05)
    assert (history["perceptual"][:, -1] < history["perceptual"][:, 0]).all()


def test_with_heldout_selection_the_kept_back_pixels_do_not_act(planted):
    G, operator, x = planted
    split = split_heldout(operator, x, 0)
    options = {"steps": 6, "codes": 2, "selection": "heldout", "perceptual": Blurred(), "perceptual_weight": 1.0}
    result = MGANPrior(G, **options).invert(x, operator)
    other = MGANPrior(G, **options).invert(torch.where(split.heldout > 0, 1 - x, x), operator)
    for name in ("loss", "measurement", "perceptual"):
        assert torch.equal(result.history[name], other.history[name])
    assert not torch.equal(result.history["heldout"], other.history["heldout"])


def test_operators_that_do_not_measure_pictures_are_refused(planted):
    G, _, x = planted
    operator = PartialCirculant((3, 16, 16), 0.2)
    solver = MGANPrior(G, steps=1, codes=2, perceptual=Blurred(), perceptual_weight=1.0)
    with pytest.raises(UserError, match=r"\[3, h, w\]") as error:
        solver.invert(operator(x), operator)
    assert "\n" not in str(error.value)
