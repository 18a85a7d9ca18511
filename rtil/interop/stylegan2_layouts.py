"""StyleGAN2 generators of rosinality's port and its many descendants, and of NVIDIA's stylegan2-ada-pytorch.

Sides, widths, depth of the mapping network and dimensions follow from the weights' shapes. What no shape tells is
checked where the file does: the filter, activation and learning-rate multiplier are constants of ours.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.generators import StyleGAN2Generator
from rtil.generators.base import load_strictly
from rtil.interop.checkpoint_files import Content
from rtil.interop.layouts import Built, Layout, Weights, check_rgb, shape
from rtil.interop.stylegan2_keys import from_nvidia_generator, from_rosinality_generator
from rtil.ops import fir_filter
from rtil.seeds import generator as seeded

MEAN_DRAWS = 10_000
DRAWS_AT_A_TIME = 1000
LATENT_AVG = "latent_avg"
MAPPING_LR = 0.01


def rosinality(network: Content, whole: Content) -> Built:
    """Build rosinality's generator, alone or as an encoder's decoder; ``latent_avg`` lies elsewhere in the file."""
    _check_filters(network.tensors, "kernel")
    weights = from_rosinality_generator(network.tensors)
    return _built(weights, _latent_avg(whole.tensors))


def nvidia(network: Content, whole: Content) -> Built:
    """Build NVIDIA's ``G_ema``; a pickle tells more of it than weights alone do."""
    keys, facts = network.tensors.keys(), network.facts
    if facts.get("c_dim") or any(key.startswith("mapping.embed.") for key in keys):
        raise UserError("it is class-conditional (mapping.embed): ours has no classes")
    sides = [int(found[1]) for key in keys if (found := re.fullmatch(r"synthesis\.b(\d+)\.conv1\.weight", key))]
    if any(re.fullmatch(r"synthesis\.b\d+\.skip\.weight", key) for key in keys):
        raise UserError("its synthesis network is 'resnet': ours is StyleGAN2's 'skip'")
    if any(f"synthesis.b{side}.torgb.weight" not in keys for side in sides):
        raise UserError("its synthesis network is 'orig', with one ToRGB: ours is StyleGAN2's 'skip'")
    _check_filters(network.tensors, "resample_filter")
    _check_facts(facts)
    weights = from_nvidia_generator(network.tensors)
    return _built(weights, weights.pop("w_mean", None), _clamp_note(facts))


LAYOUTS = (
    Layout("rosinality's stylegan2-pytorch", ("to_rgb1.conv.weight",), rosinality),
    Layout("NVIDIA's stylegan2-ada-pytorch", ("synthesis.b4.const",), nvidia),
)


@torch.no_grad()
def estimated_w_mean(generator: StyleGAN2Generator) -> Tensor:
    """Return the mean [w_dim] of the styles of 10,000 seeded draws, as NVIDIA's projector takes it."""
    total = torch.zeros(generator.w_dim, dtype=torch.float64)
    for first in range(0, MEAN_DRAWS, DRAWS_AT_A_TIME):
        z = generator.draw_z(DRAWS_AT_A_TIME, seeded(0, "convert/w_mean", first))
        total += generator.map_to_w(z).cpu().double().sum(dim=0)
    return (total / MEAN_DRAWS).float()


def _built(named: Weights, w_mean: Tensor | None, notes: tuple[str, ...] = ()) -> Built:
    blocks = sum(name.endswith(".torgb.weight") for name in named)
    layers = sum(name.startswith("mapping_layers.") and name.endswith(".weight") for name in named)
    check_rgb(shape(named, "blocks.0.torgb.weight")[0])
    generator = StyleGAN2Generator(
        resolution=4 * 2 ** (blocks - 1),
        channels={4 * 2**b: shape(named, f"blocks.{b}.conv1.weight")[0] for b in range(blocks)},
        z_dim=shape(named, "mapping_layers.0.weight")[1],
        w_dim=shape(named, "blocks.0.conv1.affine.weight")[1],
        mapping_layers=layers,
    )
    load_strictly(generator, {**named, "w_mean": generator.w_mean if w_mean is None else w_mean})
    if w_mean is not None:
        return Built(generator, "stored", notes)
    generator.w_mean.copy_(estimated_w_mean(generator))
    return Built(generator, f"estimated from {MEAN_DRAWS:,} draws", notes)


def _latent_avg(tensors: Weights) -> Tensor | None:
    """Return the mean style [w_dim]; encoders keep it once for each slot. None without one, or if slots differ."""
    found = [tensor for place, tensor in tensors.items() if place.rpartition(".")[2] == LATENT_AVG]
    if not found:
        return None
    rows = found[0].reshape(-1, found[0].shape[-1])
    return rows[0] if bool((rows == rows[0]).all()) else None


def _check_filters(tensors: Weights, name: str) -> None:
    """Raise UserError unless every filter [4, 4] is ours, up to its gain."""
    taps = fir_filter()
    ours = taps[:, None] * taps
    for key, kernel in tensors.items():
        if key.rpartition(".")[2] != name:
            continue
        if kernel.shape != ours.shape or not torch.allclose(kernel.float() / kernel.sum(), ours, atol=1e-6):
            raise UserError(f"its filter {key} is not that of StyleGAN2, [1, 3, 3, 1]: ours is a constant")


def _check_facts(facts: Mapping[str, object]) -> None:
    wanted: dict[str, object] = {
        r"synthesis\.b\d+\.conv\d\.activation": "lrelu",
        r"mapping\.fc\d+\.activation": "lrelu",
        r"mapping\.fc\d+\.bias_gain": MAPPING_LR,
    }
    for pattern, value in wanted.items():
        for place, fact in facts.items():
            if re.fullmatch(pattern, place) and fact != value:
                raise UserError(f"its {place} is {fact}: ours is {value}")


def _clamp_note(facts: Mapping[str, object]) -> tuple[str, ...]:
    clamps = {fact for place, fact in facts.items() if place.endswith(".conv_clamp") and fact is not None}
    return tuple(f"activations are not clamped here, there at +-{clamp}" for clamp in clamps)
