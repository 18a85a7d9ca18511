"""PGGAN generators: of the RTIL authors, of mGANprior and genforce (Karras' own weights), of the PyTorch GAN Zoo.

Karras' have one 3x3 convolution at 4x4, RTIL's two. The Zoo's biases are scaled with the weights, and its first layer
has one for each pixel. Networks that were saved while growing are refused.
"""

import re

from torch import Tensor

from rtil.errors import UserError
from rtil.generators import PGGANGenerator
from rtil.generators.base import load_strictly
from rtil.generators.pggan import GAIN
from rtil.interop.checkpoint_files import Content
from rtil.interop.layouts import Built, Layout, Weights, check_rgb, shape
from rtil.interop.pggan_keys import from_gan_zoo_generator, from_genforce_generator, from_rtil_generator

GAN_ZOO_CONFIG = {
    "alpha": (0, "it is still growing"),
    "leakyReluLeak": (0.2, "its leaky ReLU has another slope"),
    "perChannelNormalization": (True, "it has no pixel norm"),
    "equalizedlR": (True, "its weights are not scaled at run time"),
    "lossCriterion": ("WGANGP", "its pictures go through a tanh"),
    "categoryVectorDim": (0, "it is class-conditional"),
}
"""What the Zoo's settings must be, else what it means."""


def rtil(network: Content, whole: Content) -> Built:
    """Build the RTIL authors' generator."""
    sides = [int(found[1]) for key in network.tensors if (found := re.match(r"to_rgb_(\d+)\.conv\.bias", key))]
    weights = from_rtil_generator(network.tensors, max(sides, default=0))
    return _built(weights)


def genforce(network: Content, whole: Content) -> Built:
    """Build mGANprior's and genforce's generator."""
    lod = float(network.tensors.get("lod", Tensor([0.0])))
    if lod:
        raise UserError(f"it is still growing (lod {lod:g}): convert one that has grown")
    return _built(from_genforce_generator(network.tensors), torgb_gain=1.0, first_convolutions=1, **_karras())


def gan_zoo(network: Content, whole: Content) -> Built:
    """Build the PyTorch GAN Zoo's generator; its settings lie elsewhere in the file, where it has them."""
    for name, (value, meaning) in GAN_ZOO_CONFIG.items():
        given = whole.facts.get(f"config.{name}", value)
        if given != value:
            raise UserError(f"{meaning} ({name} {given}): ours is of {name} {value}")
    weights = from_gan_zoo_generator(network.tensors)
    return _built(weights, torgb_gain=GAIN, first_convolutions=1, input_bias="pixel", **_karras())


LAYOUTS = (
    Layout("the RTIL authors' PGGAN", ("input_layer.0.conv.weight_orig",), rtil),
    Layout("genforce's PGGAN (mGANprior)", ("output0.wscale.bias", "output0.bias"), genforce),
    Layout("PyTorch GAN Zoo", ("formatLayer.weight", "formatLayer.module.weight"), gan_zoo),
)


def _karras() -> dict[str, object]:
    return {"normalize_latent": True, "upsampling": "nearest", "norm_order": "after_act"}


def _built(weights: Weights, **options: object) -> Built:
    blocks = sum(name.endswith(".torgb.weight") for name in weights)
    check_rgb(shape(weights, "blocks.0.torgb.weight")[0])
    generator = PGGANGenerator(
        4 * 2 ** (blocks - 1),
        {4 * 2**b: shape(weights, f"blocks.{b}.conv1.weight")[0] for b in range(blocks)},
        z_dim=shape(weights, "input.weight")[0],
        **options,  # type: ignore[arg-type]
    )
    load_strictly(generator, weights)
    return Built(generator, "none")
