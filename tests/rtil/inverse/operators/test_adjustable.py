import pytest
import torch

from rtil.errors import UserError
from rtil.inverse.operators import GaussianNoise, Inpainting, make_operator

SIZE = (3, 8, 8)
LEFT = (torch.arange(8) < 4).float().expand(8, 8)
x = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))


def inpainting(**settings):
    return make_operator("inpaint", SIZE, rate=0.5, **settings)


@pytest.mark.parametrize("change", [lambda o: o.update(mask=LEFT[None, None]), lambda o: o.A(x, mask=LEFT)])
def test_a_tensor_is_replaced_by_name(change):
    operator, expected = inpainting(), Inpainting(SIZE, LEFT.bool())
    change(operator)
    assert torch.equal(operator.A(x), expected.A(x))
    assert torch.equal(operator.observed, expected.observed)
    assert operator.error_normaliser == expected.error_normaliser
    assert operator.label == "inpaint 50 % (changed)"


def test_names_of_others_are_left_alone():
    operator = inpainting()
    before = operator.A(x)
    operator.update(filter=torch.ones(1, 1, 3, 3), mask=None, all_observed=torch.zeros(()))
    assert torch.equal(operator.A(x), before)
    assert operator.label == "inpaint 50 %"


def test_a_mask_for_each_picture_is_refused():
    with pytest.raises(UserError, match=r"mask has shape \[2, 1, 8, 8\] .* the same for all pictures"):
        inpainting().update(mask=LEFT.expand(2, 1, 8, 8))


def test_sigma_is_the_noises():
    operator = inpainting(noise_sigma=0.1)
    operator.update(sigma=torch.tensor([0.2]))
    assert operator.noise_model.sigma == pytest.approx(0.2)
    with pytest.raises(UserError, match="one for all pictures"):
        operator.update(sigma=torch.tensor([0.2, 0.3]))


def test_deepinvs_gaussian_noise_becomes_ours():
    physics = pytest.importorskip("deepinv").physics
    operator = inpainting()
    operator.set_noise_model(physics.GaussianNoise(0.1))
    assert isinstance(operator.noise_model, GaussianNoise)
    assert torch.equal(operator(x, ["a", "b"]).flip(0), operator(x.flip(0), ["b", "a"]))


def test_other_noise_is_drawn_as_it_draws_and_has_no_sigma():
    physics = pytest.importorskip("deepinv").physics
    operator = make_operator("inversion", SIZE)
    operator.set_noise_model(physics.PoissonNoise(0.1, rng=torch.Generator().manual_seed(1)))
    expected = physics.PoissonNoise(0.1, rng=torch.Generator().manual_seed(1))(x)
    assert torch.equal(operator.clone()(x), expected)  # a clone draws the same, and leaves ours where it was
    assert torch.equal(operator(x), expected)
    assert operator.label == "inversion, PoissonNoise"
    with pytest.raises(UserError, match="PoissonNoise has no sigma"):
        _ = operator.noise_model.sigma


def test_a_clone_shares_nothing():
    operator = inpainting()
    copy = operator.clone()
    copy.update(mask=LEFT)
    assert not torch.equal(copy.mask, operator.mask)
