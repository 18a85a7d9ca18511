"""Our StyleGAN2 as a file of rosinality's stylegan2-pytorch, which its descendants and encoders read.

The key map of :mod:`rtil.interop.stylegan2_keys` the other way round, with the buffers that its modules expect: filters
with the gain of the upsampling, and one constant noise map for each layer, drawn from a seed.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtil.errors import UserError
from rtil.files import atomic_path
from rtil.generators import LayeredGenerator, StyleGAN2Generator
from rtil.ops import fir_filter
from rtil.seeds import generator as seeded

UPSAMPLING_GAIN = 4
FIXED_WIDTH, FIRST_FREE_SIDE, WIDTH_AT_64 = 512, 64, 256
"""Rosinality's table: 512 channels up to 32 px, then 256 m at 64 px and half at each further side, m its multiplier."""


def to_rosinality_generator(generator: StyleGAN2Generator) -> dict[str, Tensor]:
    """Return the state dict of rosinality's ``Generator`` with a generator's weights."""
    weights = {name: t.detach().cpu().clone() for name, t in generator.state_dict().items()}
    target: dict[str, Tensor] = {}
    for n in range(len(generator.mapping_layers)):
        for part in ("weight", "bias"):
            target[f"style.{n + 1}.{part}"] = weights[f"mapping_layers.{n}.{part}"]
    target["input.input"] = weights["blocks.0.const"][None]
    taps = fir_filter()
    kernel = UPSAMPLING_GAIN * taps[:, None] * taps
    for b in range(generator.num_blocks):
        layers = {"conv1": "conv1"} if b == 0 else {f"convs.{2 * b - 2 + n}": f"conv{n}" for n in (0, 1)}
        for theirs, ours in layers.items():
            layer = f"blocks.{b}.{ours}"
            target |= _modulated(weights, layer, theirs)
            target[f"{theirs}.noise.weight"] = weights[f"{layer}.noise_strength"].reshape(1)
            target[f"{theirs}.activate.bias"] = weights[f"{layer}.bias"]
            if ours == "conv0":
                target[f"{theirs}.conv.blur.kernel"] = kernel.clone()
        torgb = f"to_rgbs.{b - 1}" if b else "to_rgb1"
        target |= _modulated(weights, f"blocks.{b}.torgb", torgb)
        target[f"{torgb}.bias"] = weights[f"blocks.{b}.torgb.bias"].reshape(1, 3, 1, 1)
        if b:
            target[f"{torgb}.upsample.kernel"] = kernel.clone()
    for i, shape in enumerate(generator.noise_shapes()):
        target[f"noises.noise_{i}"] = torch.randn(1, *shape, generator=seeded(0, "export/noise", i))
    return target


def construction(generator: StyleGAN2Generator) -> str:
    """Return how rosinality's code makes the network that loads the state dict."""
    call = f"Generator({generator.resolution}, {generator.w_dim}, {len(generator.mapping_layers)}"
    for m in (1, 2):
        if all(width == _width(side, m) for side, width in generator.channels.items()):
            return f"{call}, channel_multiplier={m})"
    return f"{call}) with the table channels = {generator.channels} in its model.py"


def save_rosinality(path: Path, generator: LayeredGenerator, info: dict[str, Any]) -> None:
    """Write ``g_ema``, ``latent_avg`` and ``info``, the card, as rosinality's training does; atomically.

    Raises:
        UserError: Rosinality's network cannot be this generator.
    """
    content = rosinality_checkpoint(generator) | {"info": info}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def rosinality_checkpoint(generator: LayeredGenerator) -> dict[str, Any]:
    """Return ``g_ema`` and ``latent_avg`` of a generator.

    Raises:
        UserError: It is no StyleGAN2, or z and w have different lengths.
    """
    if not isinstance(generator, StyleGAN2Generator):
        raise UserError(f"rosinality's layout is StyleGAN2's: there is none for {generator.arch}")
    if generator.z_dim != generator.w_dim:
        raise UserError(f"z has {generator.z_dim} entries and w {generator.w_dim}: in rosinality's layout both are one")
    return {"g_ema": to_rosinality_generator(generator), "latent_avg": generator.w_mean.detach().cpu().clone()}


def _modulated(weights: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    return {
        f"{theirs}.conv.weight": weights[f"{ours}.weight"][None],
        f"{theirs}.conv.modulation.weight": weights[f"{ours}.affine.weight"],
        f"{theirs}.conv.modulation.bias": weights[f"{ours}.affine.bias"],
    }


def _width(side: int, multiplier: int) -> int:
    return FIXED_WIDTH if side < FIRST_FREE_SIDE else WIDTH_AT_64 * multiplier * FIRST_FREE_SIDE // side
