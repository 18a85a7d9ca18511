"""l1 balls and the shell of z1 in ILO's rounds."""

import math

import pytest
import torch

from ilo import CSGM, ILO
from rtil.errors import UserError

LAST = {"seed": 3, "selection": "last", "lr": 0.3}


def start_of(planted, **options):
    return ILO(planted.generator, steps=(0,), seed=3, **options).invert(planted.x, planted.operator).latents


def distance(a, b):
    return (a - b)[0].flatten(1).abs().sum(1)


def test_the_ball_binds(planted):
    G, operator, x = planted
    radii = {"radius_latent": (8.0, 0.0), "radius_noise": (2.0, 0.0), "radius_feature": (0.0, 5.0)}
    free = ILO(G, steps=(15, 0), **LAST, sphere=False).invert(x, operator).latents
    held = ILO(G, steps=(15, 0), **LAST, **radii).invert(x, operator).latents
    start = start_of(planted)
    for name, radius in (("v", 8.0), ("noise_0", 2.0), ("noise_1", 2.0)):
        assert (distance(free[name], start[name]) > 2 * radius).all(), "the test needs a ball that matters"
        assert torch.allclose(distance(held[name], start[name]), torch.tensor(radius), rtol=1e-4), name
    sparse = ((held["v"] - start["v"])[0].flatten(1) == 0).float().mean(1)
    assert (sparse > 0.1).all(), "what an l1 ball is for"
    feature = ILO(G, steps=(0, 15), **LAST, **radii).invert(x, operator).latents
    assert torch.allclose(feature["z1_1"][0].flatten(1).abs().sum(1), torch.tensor(5.0), rtol=1e-4)
    assert torch.equal(feature["v"], start["v"]), "radius 0 holds the latents"


def test_a_ball_lies_around_the_start_of_its_round(planted):
    G, operator, x = planted
    options = {**LAST, "radius_latent": 6.0, "noise": "none"}
    first = ILO(G, steps=(15,), **options).invert(x, operator).latents
    second = ILO(G, steps=(15, 15), **options, radius_feature=0.0).invert(x, operator).latents
    assert torch.allclose(distance(second["v"], first["v"]), torch.tensor(6.0), rtol=1e-4)
    assert (distance(second["v"], start_of(planted)["v"]) > 6.1).any()


def test_a_ball_that_nothing_reaches_is_no_constraint(planted):
    G, operator, x = planted
    free = ILO(G, steps=(6, 6), seed=3, sphere=False)(x, operator)
    wide = {"radius_latent": 1e6, "radius_noise": 1e6, "radius_feature": 1e6}
    assert torch.equal(ILO(G, steps=(6, 6), seed=3, **wide)(x, operator), free), "the sphere gives way to the ball"
    only_noise = ILO(G, steps=(6,), **LAST, radius_noise=1e6).invert(x, operator).latents
    assert torch.allclose(only_noise["v"].norm(dim=-1), start_of(planted)["v"].norm(dim=-1), rtol=1e-5)


def test_balls_do_not_join_images(planted):
    G, operator, x = planted
    radii = {"radius_latent": 8.0, "radius_noise": 2.0, "radius_feature": 5.0}
    together = ILO(G, steps=(8, 8), seed=3, **radii).invert(x, operator, ["a", "b", "c", "d"])
    single = ILO(G, steps=(8, 8), seed=3, **radii).invert(x[2:3], operator, ["c"])
    assert torch.allclose(single.x[0], together.x[2], atol=1e-3)


def test_z1_stays_on_the_shell_of_its_prior(planted):
    G, operator, x = planted
    for sigma in (1.0, 0.1):
        options = {**LAST, "z1_start": "normal", "z1_sigma": sigma, "z1_sphere": True}
        expected = torch.tensor(sigma * math.sqrt(math.prod(G.cut_shape(1))))
        for steps in ((2, 1), (2, 15)):
            z1 = ILO(G, steps=steps, **options).invert(x, operator).latents["z1_1"][0]
            assert torch.allclose(z1.flatten(1).norm(dim=1), expected, rtol=1e-5)
    free = ILO(G, steps=(2, 15), **(options | {"z1_sphere": False})).invert(x, operator).latents["z1_1"][0]
    assert not torch.allclose(free.flatten(1).norm(dim=1), expected, rtol=0.05)


def test_z1_sigma_scales_start_and_penalty(planted):
    G, operator, x = planted
    start = {"steps": (0, 1), "lr": 1e-9, "seed": 2, "z1_start": "normal", "selection": "last"}
    one, two = (ILO(G, **start, z1_sigma=sigma).invert(x, operator).latents["z1_1"] for sigma in (1.0, 2.0))
    assert torch.allclose(two, 2 * one, atol=1e-6)
    results = [ILO(G, **start, z1_sigma=s, z1_weight=1.0).invert(x, operator) for s in (1.0, 2.0)]
    z1 = one[0].double().square().flatten(1).mean(1) / 2
    for result in results:
        assert torch.allclose(result.history["z1"][:, 0].double(), z1, rtol=1e-4)


def test_csgm_is_the_first_round_with_a_ball_too(planted):
    G, operator, x = planted
    options = {"seed": 2, "radius_latent": 5.0, "radius_noise": [1.0]}
    assert torch.equal(CSGM(G, steps=7, **options)(x, operator), ILO(G, steps=(7,), **options)(x, operator))
    several = CSGM(G, steps=7, seed=2, radius_latent=(5.0, 9.0), radius_noise=(1.0, 2.0), lr=(0.1, 0.7))
    assert torch.equal(several(x, operator), ILO(G, steps=(7,), **options)(x, operator)), "of several the first"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"radius_latent": -1.0}, "radius_latent is -1"),
        ({"radius_noise": (1.0, 2.0, 3.0)}, "one for each of 2 rounds"),
        ({"radius_feature": (1.0, 2.0, 3.0)}, "one for each of 2 rounds"),
        ({"radius_latent": math.nan}, "number >= 0"),
        ({"z1_sphere": True}, "z1_start normal"),
        ({"z1_sphere": True, "z1_start": "normal", "radius_feature": 1.0}, "both hold z1"),
        ({"z1_sigma": 0.0}, "z1_sigma is 0: valid is a number above 0"),
        ({"switch": "plato"}, "did you mean 'plateau'"),
        ({"switch_window": 0, "switch": "plateau"}, "switch_window is 0"),
        ({"perceptual_mode": "filled"}, "did you mean 'fill'"),
        ({"policy": "papers"}, "did you mean 'paper'"),
        ({"perceptual_weight": 0.0}, "perceptual_weight is 0"),
        ({"measurement_weight": -1.0}, "measurement_weight is -1"),
        ({"sna_sigma": 0.0}, "sna_sigma is 0"),
        ({"range_projection": -1}, "range_projection is -1"),
        ({"range_projection": 1, "range_steps": 0}, "range_steps is 0: valid is a whole number of 1"),
        ({"range_projection": 1, "steps": (5, 0)}, "two rounds or more"),
    ],
)
def test_wrong_options(small_generator, options, words):
    with pytest.raises(UserError, match=words) as error:
        ILO(small_generator, **{"steps": (1, 1), **options})
    assert "\n" not in str(error.value)
