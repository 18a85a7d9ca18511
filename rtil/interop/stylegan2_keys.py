"""Key maps from two published StyleGAN2 code bases to ours: same weights, same numbers.

* rosinality's PyTorch port (the base of most inversion work): state dicts ``g_ema`` and ``d``.
* NVIDIA's stylegan2-ada-pytorch: ``G_ema`` and ``D``.

Each function returns a state dict that our modules load strictly. Filters are constants of the architecture and
noise constants are inputs of ours, so both are left out by name; any other key that is not known is an error.
"""

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from rtil.errors import UserError

Rule = tuple[str, Callable[[re.Match[str]], str]]


def _apply(rules: list[Rule], ignored: str, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    target = {}
    for key, value in source.items():
        if re.fullmatch(ignored, key):
            continue
        for pattern, name in rules:
            match = re.fullmatch(pattern, key)
            if match:
                target[name(match)] = value
                break
        else:
            raise UserError(f"'{key}' is not a weight of a StyleGAN2 of this kind")
    return target


def _rosinality_layer(index: int) -> str:
    """Name of styled convolution ``convs.index``: two per block from block 1 on."""
    return f"blocks.{index // 2 + 1}.conv{index % 2}"


_ROSINALITY_PARTS = {
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "conv.weight": "weight",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
    "bias": "bias",
}
_PARTS = "|".join(re.escape(part) for part in _ROSINALITY_PARTS)


def from_rosinality_generator(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of rosinality's ``g_ema`` (without that prefix); the mean w is not among them."""
    rules: list[Rule] = [
        (r"style\.(\d+)\.(weight|bias)", lambda m: f"mapping_layers.{int(m[1]) - 1}.{m[2]}"),
        (r"input\.input", lambda _: "blocks.0.const"),
        (rf"conv1\.({_PARTS})", lambda m: f"blocks.0.conv1.{_ROSINALITY_PARTS[m[1]]}"),
        (rf"to_rgb1\.({_PARTS})", lambda m: f"blocks.0.torgb.{_ROSINALITY_PARTS[m[1]]}"),
        (rf"convs\.(\d+)\.({_PARTS})", lambda m: f"{_rosinality_layer(int(m[1]))}.{_ROSINALITY_PARTS[m[2]]}"),
        (rf"to_rgbs\.(\d+)\.({_PARTS})", lambda m: f"blocks.{int(m[1]) + 1}.torgb.{_ROSINALITY_PARTS[m[2]]}"),
    ]
    target = _apply(rules, r".*\.kernel|noises\..*", source)
    return {key: _drop_unit_axes(key, value) for key, value in target.items()}


def _drop_unit_axes(key: str, value: Tensor) -> Tensor:
    """Weights carry a leading 1 there, ToRGB biases are [1, 3, 1, 1], noise strengths [1]."""
    if key.endswith("noise_strength"):
        return value.reshape(())
    if key.endswith("bias"):
        return value.reshape(-1)
    if key.endswith("const") or value.ndim == 5:
        return value[0]
    return value


def from_rosinality_discriminator(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of rosinality's ``d`` (without that prefix)."""
    kind = {"0.weight": "weight", "1.bias": "bias", "1.weight": "weight", "2.bias": "bias"}
    part = r"([012]\.(?:weight|bias))"
    rules: list[Rule] = [
        (rf"convs\.0\.{part}", lambda m: f"fromrgb.{kind[m[1]]}"),
        (rf"convs\.(\d+)\.conv1\.{part}", lambda m: f"blocks.{int(m[1]) - 1}.conv0.{kind[m[2]]}"),
        (rf"convs\.(\d+)\.conv2\.{part}", lambda m: f"blocks.{int(m[1]) - 1}.conv1.{kind[m[2]]}"),
        (rf"convs\.(\d+)\.skip\.{part}", lambda m: f"blocks.{int(m[1]) - 1}.skip.{kind[m[2]]}"),
        (rf"final_conv\.{part}", lambda m: f"conv.{kind[m[1]]}"),
        (r"final_linear\.0\.(weight|bias)", lambda m: f"fc.{m[1]}"),
        (r"final_linear\.1\.(weight|bias)", lambda m: f"out.{m[1]}"),
    ]
    return _apply(rules, r".*\.kernel", source)


def _block_of_side(side: str) -> int:
    return int(side).bit_length() - 3


def from_nvidia_generator(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of NVIDIA's ``G_ema`` (without that prefix), the mean w included."""
    part = r"(affine\.weight|affine\.bias|weight|bias|noise_strength)"
    rules: list[Rule] = [
        (r"mapping\.fc(\d+)\.(weight|bias)", lambda m: f"mapping_layers.{m[1]}.{m[2]}"),
        (r"mapping\.w_avg", lambda _: "w_mean"),
        (r"synthesis\.b4\.const", lambda _: "blocks.0.const"),
        (
            rf"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.{part}",
            lambda m: f"blocks.{_block_of_side(m[1])}.{m[2]}.{m[3]}",
        ),
    ]
    return _apply(rules, r".*\.(resample_filter|noise_const)", source)


def from_nvidia_discriminator(source: Mapping[str, Tensor], resolution: int) -> dict[str, Tensor]:
    """Rename the weights of NVIDIA's ``D`` (without that prefix) for pictures of ``resolution`` px."""
    first = _block_of_side(str(resolution))
    rules: list[Rule] = [
        (rf"b{resolution}\.fromrgb\.(weight|bias)", lambda m: f"fromrgb.{m[1]}"),
        (r"b4\.(conv|fc|out)\.(weight|bias)", lambda m: f"{m[1]}.{m[2]}"),
        (
            r"b(\d+)\.(conv0|conv1|skip)\.(weight|bias)",
            lambda m: f"blocks.{first - _block_of_side(m[1])}.{m[2]}.{m[3]}",
        ),
    ]
    return _apply(rules, r".*\.resample_filter", source)
