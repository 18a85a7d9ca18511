import pytest
import torch
from safetensors.torch import load_file

from rtil.discriminators import StyleGAN2Discriminator
from rtil.errors import UserError
from rtil.generators import StyleGAN2Generator
from rtil.interop import stylegan2_keys as keys
from rtil.training.losses import path_lengths, r1_penalty

CHANNELS = {4: 16, 8: 16, 16: 16, 32: 8}


def part(tensors, prefix):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def close(ours, theirs, rtol=1e-5):
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=rtol, atol=rtol * float(theirs.abs().max()))


@pytest.fixture
def rosinality(shared):
    tensors = load_file(shared / "golden" / "stylegan2_rosinality_32.safetensors")
    g = StyleGAN2Generator(32, CHANNELS, z_dim=24, w_dim=24, mapping_layers=3)
    g.load_state_dict(keys.from_rosinality_generator(part(tensors, "g_ema.")) | {"w_mean": torch.zeros(24)})
    d = StyleGAN2Discriminator(32, CHANNELS)
    d.load_state_dict(keys.from_rosinality_discriminator(part(tensors, "d.")))
    inputs = {k: v.double() for k, v in part(tensors, "in.").items()}
    noise = [inputs[f"noise.{i}"] for i in range(7)]
    return g.double(), d.double(), inputs, noise, part(tensors, "out.")


def test_rosinality_pictures_and_scores(rosinality, tier):
    g, d, inputs, noise, out = rosinality
    close(g.map_to_w(inputs["z"]), out["w"])
    image = g(g.mapping(inputs["z"]), noise)
    close(image, out["image"])
    close(g(inputs["wplus"], noise), out["image_wplus"])
    close(d(image)[:, None], out["d_fake"])
    close(d(inputs["real"])[:, None], out["d_real"])


def test_rosinality_r1_and_its_weight_gradients(rosinality, tier):
    _, d, inputs, _, out = rosinality
    penalty = r1_penalty(d, inputs["real"])
    close(penalty, out["r1_per_sample"])
    grads = torch.autograd.grad(penalty.mean(), list(d.parameters()), allow_unused=True)
    sums = torch.stack([torch.zeros(()).double() if g is None else g.abs().sum() for g in grads])
    close(sums, out["r1_grad_abs_sums"])


def test_rosinality_path_lengths(rosinality, tier):
    g, _, inputs, noise, out = rosinality
    ws = inputs["wplus"].requires_grad_()
    one_code = torch.ones(len(ws), dtype=torch.int64)
    close(path_lengths(g(ws, noise), ws, inputs["path_noise"], one_code), out["path_lengths"])


def test_nvidia_pictures_and_scores(shared, tier):
    tensors = load_file(shared / "golden" / "stylegan2_ada_32.safetensors")
    g = StyleGAN2Generator(32, CHANNELS, z_dim=24, w_dim=24, mapping_layers=2)
    source = part(tensors, "G_ema.")
    g.load_state_dict(keys.from_nvidia_generator(source))
    d = StyleGAN2Discriminator(32, CHANNELS)
    d.load_state_dict(keys.from_nvidia_discriminator(part(tensors, "D."), 32))
    out, inputs = part(tensors, "out."), part(tensors, "in.")
    g, d = g.double(), d.double()
    names = ["b4.conv1"] + [f"b{side}.conv{i}" for side in (8, 16, 32) for i in (0, 1)]
    noise = [source[f"synthesis.{name}.noise_const"].double()[None, None] for name in names]
    silent = [torch.zeros_like(n) for n in noise]
    ws = g.mapping(inputs["z"].double())
    close(ws, out["ws"])
    close(g.truncate(ws, 0.7), out["ws_psi07"])
    close(g(ws, noise), out["image_noise_const"])
    close(g(ws, silent), out["image_noise_none"])
    close(g(g.truncate(ws, 0.7), noise), out["image_psi07_noise_const"])
    close(d(inputs["real"].double())[:, None], out["d_real"])


def test_unknown_key_is_refused():
    with pytest.raises(UserError, match=r"'convs\.0\.wrong'"):
        keys.from_rosinality_generator({"convs.0.wrong": torch.zeros(1)})
