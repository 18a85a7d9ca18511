"""mGANprior with a stand-in distance: mean absolute difference of neighbouring pixels' sums."""

import pytest
import torch
import torch.nn.functional as F

from mganprior import MGANPrior
from rtil.errors import UserError
from rtil.inverse.losses import split_heldout
from rtil.inverse.operators import make_operator
from rtil.inverse.operators.circulant import PartialCirculant


class Blurred:
    """Sees neighbours together, as a network does."""

    def distance(self, x, reference):
        assert x.shape == reference.shape
        return (F.avg_pool2d(x, 3, 1, 1) - F.avg_pool2d(reference, 3, 1, 1)).abs().flatten(1).mean(1)


def test_the_term_enters_the_objective(planted):
    G, operator, x = planted
    options = {"steps": 15, "codes": 3, "seed": 1, "selection": "last"}
    plain = MGANPrior(G, **options).invert(x, operator)
    both = MGANPrior(G, **options, perceptual="vgg", distance=Blurred(), perceptual_weight=5.0).invert(x, operator)
    history = both.history
    assert torch.allclose(history["loss"], history["measurement"] + 5 * history["perceptual"])
    assert torch.allclose(history["measurement"][:, 0], plain.history["measurement"][:, 0])
    assert not torch.allclose(both.x, plain.x, atol=1e-3)
    start = MGANPrior(G, **{**options, "steps": 0}).invert(x, operator).x
    assert torch.allclose(history["perceptual"][:, 0], Blurred().distance(start, x), atol=0.05)
    assert (history["perceptual"][:, -1] < history["perceptual"][:, 0]).all()


def test_with_heldout_selection_the_kept_back_pixels_do_not_act(planted):
    G, operator, x = planted
    split = split_heldout(make_operator("inversion", (3, 16, 16)), x, 0)
    options = {
        "steps": 6,
        "codes": 2,
        "selection": "heldout",
        "perceptual": "vgg",
        "distance": Blurred(),
        "perceptual_weight": 1.0,
    }
    result = MGANPrior(G, **options).invert(x, operator)
    other = MGANPrior(G, **options).invert(torch.where(split.heldout > 0, 1 - x, x), operator)
    for name in ("loss", "measurement", "perceptual"):
        assert torch.equal(result.history[name], other.history[name])
    assert not torch.equal(result.history["heldout"], other.history["heldout"])


def test_operators_that_do_not_measure_pictures_are_refused(planted):
    G, _, x = planted
    operator = PartialCirculant((3, 16, 16), 0.2)
    solver = MGANPrior(G, steps=1, codes=2, perceptual="vgg", distance=Blurred(), perceptual_weight=1.0)
    with pytest.raises(UserError, match=r"\[3, h, w\]") as error:
        solver.invert(operator(x), operator)
    assert "\n" not in str(error.value)
