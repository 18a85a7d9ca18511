"""Key maps from the RTIL authors' PGGAN (after odegeasslbc's PyTorch port) to ours: same weights, same numbers.

Each function takes a state dict (``g``, ``g_ema`` or ``d`` without that prefix) and returns one that our modules load
strictly; a key too many or too few is an error. Weights are stored there as here, before equalised scaling.
"""

from collections.abc import Mapping

from torch import Tensor

from rtil.errors import UserError
from rtil.generators.layers import resolutions

_FIRST, _SECOND = "conv.0", "conv.3"  # of a block; pixel norm and leaky ReLU are 1, 2 and 4, 5


def _translate(layers: Mapping[str, str], source: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Rename the weight and bias of every layer {theirs: ours}."""
    names = {f"{theirs}.weight_orig": f"{ours}.weight" for theirs, ours in layers.items()}
    names |= {f"{theirs}.bias": f"{ours}.bias" for theirs, ours in layers.items()}
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
