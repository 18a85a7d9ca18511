"""Pictures as feature vectors, by the networks behind LPIPS or by FID's Inception network.

LPIPS' backbones (AlexNet, VGG16) are at hand wherever LPIPS is: the activations of their third stage (relu3 of AlexNet,
relu3_3 of VGG16), averaged over the map. Inception's weights are not public domain and have no package: whoever has the
file that torch-fidelity downloads gets FID and KID as others report them.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtil.errors import UserError
from rtil.layout import LpipsNet
from rtil.ranges import uint8_to_signed
from rtil.torch_files import read_torch
from rtil.weights import load_lpips

LEAST_PIXELS = 96
"""Smaller pictures are enlarged so far (bilinear): AlexNet's third stage sees little of them otherwise."""
CHUNK = 64
STAGES = ("slice1", "slice2", "slice3")


class PooledFeatures(nn.Module):
    """Features of LPIPS' backbone, averaged over the map.

    Args:
        net: alex or vgg.

    Raises:
        UserError: Its weights are not on this machine.
    """

    def __init__(self, net: LpipsNet) -> None:
        super().__init__()
        lpips = load_lpips(net)
        if lpips is None:
            raise UserError(f"the weights of {net} are not on this machine: get them by rtil weights lpips")
        self.scaling = cast(Any, lpips).scaling_layer
        self.stages = nn.Sequential(*(getattr(cast(Any, lpips).net, name) for name in STAGES))

    def forward(self, images: Tensor) -> Tensor:
        """Return [N, C] of pictures uint8 [N, 3, R, R]."""
        x = uint8_to_signed(images)
        if x.shape[-1] < LEAST_PIXELS:
            x = F.interpolate(x, size=LEAST_PIXELS, mode="bilinear", antialias=False)
        pooled: Tensor = self.stages(self.scaling(x)).mean(dim=(2, 3))
        return pooled


def inception(weights: Path) -> nn.Module:
    """Return FID's Inception-v3 (pool3, 2048 features), of pictures uint8 [N, 3, R, R], as torchmetrics has it.

    Args:
        weights: torch-fidelity's ``weights-inception-2015-12-05-6726825d.pth``.

    Raises:
        UserError: The package torch-fidelity is missing, or the file is not its file.
    """
    if find_spec("torch_fidelity") is None:
        raise UserError("FID's network needs the package torch-fidelity: pip install 'rtil[quality]'")
    from torchmetrics.image.fid import NoTrainInceptionV3

    if not weights.is_file():
        raise UserError(f"inception weights {weights} do not exist: give the file that torch-fidelity downloads")
    try:
        read_torch(weights)  # nothing of it runs, and it is whole
        network: nn.Module = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))
    except (ValueError, TypeError, AttributeError, RuntimeError, KeyError) as error:  # UserError among them
        raise UserError(f"{weights} cannot be used as weights of FID's Inception network: {error}") from error
    return network.eval().requires_grad_(False)


@torch.no_grad()
def features_of(network: nn.Module, images: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return the features, float32 [N, C] on the CPU, of pictures uint8 [N, 3, R, R]."""
    return torch.cat([network(chunk.to(device)).float().cpu() for chunk in images.split(CHUNK)])
