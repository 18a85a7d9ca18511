import pytest
import torch
from safetensors.torch import load_file

from rtil.discriminators import PGGANDiscriminator
from rtil.errors import UserError
from rtil.generators import PGGANGenerator
from rtil.generators.mixing import head_of_rows, mix_rows
from rtil.interop import pggan_keys as keys

G_CHANNELS = {4: 16, 8: 16, 16: 16, 32: 16, 64: 8}
D_CHANNELS = {4: 16, 8: 16, 16: 16, 32: 16, 64: 8, 128: 4, 256: 4}
STEPS = [(0, 1), (2, 0.4), (3, 1), (4, 0.7), (4, 1)]


def part(tensors, prefix):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def close(ours, theirs, rtol=1e-5):
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=rtol, atol=rtol * float(theirs.abs().max()))


@pytest.fixture
def golden(shared):
    return load_file(shared / "golden" / "pggan_rtil.safetensors")


@pytest.fixture
def g(golden):
    g = PGGANGenerator(64, G_CHANNELS, z_dim=24)
    g.load_state_dict(keys.from_rtil_generator(part(golden, "g."), 64))
    return g.double()


@pytest.fixture
def d(golden):
    d = PGGANDiscriminator(256, D_CHANNELS)
    d.load_state_dict(keys.from_rtil_discriminator(part(golden, "d."), 256))
    return d.double()


@pytest.mark.parametrize(("step", "alpha"), STEPS)
def test_pictures_and_scores_at_every_step(golden, g, d, step, alpha):
    g.grow(step + 1, alpha)
    image = g(g.mapping(golden["in.z"].double()), [])
    theirs = golden[f"out.image.step{step}.alpha{alpha}"]
    close(image, theirs)
    d.grow(step + 1, alpha)
    close(d(theirs)[:, None], golden[f"out.d.step{step}.alpha{alpha}"])


def test_picture_of_mixed_codes(golden, g):
    ws = g.mapping(golden["in.z_codes"].double())
    mixed = mix_rows(head_of_rows(g, ws, [], 4), golden["in.code_weights"].double())
    close(g.tail(mixed, ws[:1], [], 4), golden["out.image_composed.step4"])


def test_in_float32_too(golden, g, d):
    g, d = g.float(), d.float()
    image = g(g.mapping(golden["in.z"]), [])
    close(image, golden["out.image.step4.alpha1"])
    d.grow(5)
    close(d(image)[:, None], golden["out.d.step4.alpha1"], rtol=1e-4)


def small_generator():
    names = ["input_layer.0"] + [f"progression_{s}.conv.{i}" for s in (4, 8) for i in (0, 3)] + ["to_rgb_4", "to_rgb_8"]
    return {f"{name}.conv.{part}": torch.zeros(1) for name in names for part in ("weight_orig", "bias")}


def test_every_key_has_one_place():
    names = PGGANGenerator(8, {4: 2, 8: 2}, z_dim=2).state_dict().keys()
    assert keys.from_rtil_generator(small_generator(), 8).keys() == names


def test_unknown_key_is_refused():
    with pytest.raises(UserError, match=r"1 keys are not weights of a 8 px PGGAN generator: conv\.wrong"):
        keys.from_rtil_generator(small_generator() | {"conv.wrong": torch.zeros(1)}, 8)


def test_missing_key_is_refused():
    source = small_generator()
    del source["to_rgb_8.conv.bias"]
    with pytest.raises(UserError, match=r"1 weights .* are missing: to_rgb_8\.conv\.bias"):
        keys.from_rtil_generator(source, 8)


def test_discriminator_of_another_size_is_refused(golden):
    with pytest.raises(UserError, match="not weights of a 128 px PGGAN discriminator"):
        keys.from_rtil_discriminator(part(golden, "d."), 128)
