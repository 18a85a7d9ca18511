"""Key maps from other PGGANs to ours: same weights, same numbers.

* The RTIL authors' (after odegeasslbc's PyTorch port): weights are stored there as here, before equalised scaling.
* mGANprior's and genforce's, with Karras' weights: the layer behind z is a 4x4 convolution of a padded pixel, so its
  kernel is turned round; its fan_in is that of z.
* PyTorch GAN Zoo's: that layer is linear, with a bias for each pixel; biases are scaled as the weights are.

Each function takes a state dict (``g``, ``g_ema`` or ``d`` without that prefix) and returns one that our modules load
strictly; a key too many or too few is an error.
"""

import math
from collections.abc import Mapping

from torch import Tensor

from rtil.errors import UserError
from rtil.layout import resolutions

_FIRST, _SECOND = "conv.0", "conv.3"  # of a block; pixel norm and leaky ReLU are 1, 2 and 4, 5


def _translate(
    layers: Mapping[str, str], source: Mapping[str, Tensor], kind: str, weight: str = "weight_orig", bias: str = "bias"
) -> dict[str, Tensor]:
    """Rename the weight and bias of every layer {theirs: ours}."""
    names = {f"{theirs}.{weight}": f"{ours}.weight" for theirs, ours in layers.items()}
    names |= {f"{theirs}.{bias}": f"{ours}.bias" for theirs, ours in layers.items()}
    if unknown := sorted(source.keys() - names.keys()):
        raise UserError(f"{len(unknown)} keys are not weights of {kind}: {', '.join(unknown[:3])}")
    if missing := sorted(names.keys() - source.keys()):
        raise UserError(f"{len(missing)} weights of {kind} are missing: {', '.join(missing[:3])}")
    return {names[key]: value for key, value in source.items()}


def from_rtil_generator(source: Mapping[str, Tensor], resolution: int) -> dict[str, Tensor]:
    """Rename the weights of the authors' generator for pictures of up to ``resolution`` px.

    Raises:
        UserError: If a key is unknown or missing.
    """
    layers = {"input_layer.0.conv": "input"}
    for b, side in enumerate(resolutions(resolution)):
        layers[f"progression_{side}.{_FIRST}.conv"] = f"blocks.{b}.conv0"
        layers[f"progression_{side}.{_SECOND}.conv"] = f"blocks.{b}.conv1"
        layers[f"to_rgb_{side}.conv"] = f"blocks.{b}.torgb"
    return _translate(layers, source, f"a {resolution} px PGGAN generator")


def from_rtil_discriminator(source: Mapping[str, Tensor], resolution: int) -> dict[str, Tensor]:
    """Rename the weights of the authors' discriminator, whose lists start at ``resolution`` px and end at 4.

    Raises:
        UserError: If a key is unknown or missing.
    """
    last = len(resolutions(resolution)) - 1
    layers = {f"from_rgb.{last - b}.conv": f"fromrgb.{b}" for b in range(last + 1)}
    for b in range(1, last + 1):
        layers[f"progression.{last - b}.{_FIRST}.conv"] = f"blocks.{b}.conv0"
        layers[f"progression.{last - b}.{_SECOND}.conv"] = f"blocks.{b}.conv1"
    layers[f"progression.{last}.{_FIRST}.conv"] = "blocks.0.conv"
    layers[f"progression.{last}.{_SECOND}.conv"] = "blocks.0.fc"
    layers["linear.linear"] = "blocks.0.out"
    target = _translate(layers, source, f"a {resolution} px PGGAN discriminator")
    target["blocks.0.fc.weight"] = target["blocks.0.fc.weight"].flatten(1)
    return target


def from_genforce_generator(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of mGANprior's generator, or of genforce's, whose names are shorter.

    Raises:
        UserError: If a key is unknown or missing.
    """
    source = {key: value for key, value in source.items() if key != "lod"}
    long = "output0.wscale.bias" in source
    last = sum(key.startswith("output") and key.endswith("bias") for key in source) - 1
    layers = {"layer0": "input"} | {f"output{b}": f"blocks.{b}.torgb" for b in range(last + 1)}
    layers |= {f"layer{2 * b}": f"blocks.{b}.conv0" for b in range(1, last + 1)}
    layers |= {f"layer{2 * b + 1}": f"blocks.{b}.conv1" for b in range(last + 1)}
    weight, bias = ("conv.weight", "wscale.bias") if long else ("weight", "bias")
    target = _translate(layers, source, f"a {4 * 2**last} px PGGAN generator of genforce", weight, bias)
    first = target["input.weight"].double()  # [C, z_dim, 4, 4]
    C, z_dim = first.shape[:2]
    target["input.weight"] = (first.flip(2, 3).transpose(0, 1) * math.sqrt(C / z_dim)).float()
    return target


def from_gan_zoo_generator(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the PyTorch GAN Zoo's generator, saved by newer or older releases of torch.

    Raises:
        UserError: If a key is unknown or missing.
    """
    source = {key.replace(".module.", "."): value for key, value in source.items()}
    last = sum(key.startswith("toRGBLayers.") and key.endswith(".bias") for key in source) - 1
    layers = {"formatLayer": "input", "groupScale0.0": "blocks.0.conv1"}
    layers |= {f"toRGBLayers.{b}": f"blocks.{b}.torgb" for b in range(last + 1)}
    layers |= {f"scaleLayers.{b}.{n}": f"blocks.{b + 1}.conv{n}" for b in range(last) for n in (0, 1)}
    target = _translate(layers, source, f"a {4 * 2**last} px PGGAN generator of the GAN Zoo", "weight")
    for name in layers.values():
        fan_in = target[f"{name}.weight"][0].numel()
        target[f"{name}.bias"] = (target[f"{name}.bias"].double() * math.sqrt(2 / fan_in)).float()
    first = target["input.weight"].double()  # [16 C, z_dim]
    z_dim = first.shape[1]
    first = first.unflatten(0, (-1, 4, 4)).movedim(3, 0)
    target["input.weight"] = (first * math.sqrt(16 * first.shape[1] / z_dim)).float()
    target["input.bias"] = target["input.bias"].unflatten(0, (-1, 4, 4))
    return target
