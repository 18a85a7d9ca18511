"""LPIPS (Zhang et al. 2018): heads and architecture of the ``lpips`` package, backbone from :mod:`.backbones`."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from rtil.errors import unknown
from rtil.layout import LpipsNet
from rtil.weights.backbones import BACKBONES, find_backbone


def load_lpips(net: LpipsNet) -> nn.Module | None:
    """Return the LPIPS v0.1 network, frozen and in eval mode, or None when its backbone is not on this machine.

    Called with two pictures [N, 3, H, W] in [-1, 1] it returns distances [N, 1, 1, 1]. It never downloads.

    Args:
        net: "alex" or "vgg".

    Raises:
        UserError: Unknown net, or a weight file with a wrong hash.
    """
    if net not in BACKBONES:
        raise unknown("LPIPS network", net, BACKBONES)
    backbone = find_backbone(net)
    if backbone is None:
        return None
    import lpips  # imported late: it pulls torchvision, which evaluation without LPIPS does not need

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore", UserWarning)  # lpips passes arguments that torchvision calls deprecated
        network: nn.Module = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    heads_file = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    heads = torch.load(heads_file, map_location="cpu", weights_only=True)
    weights = {name: _weight(name, value, backbone, heads) for name, value in network.state_dict().items()}
    network.load_state_dict(weights, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def _weight(name: str, value: Tensor, backbone: dict[str, Tensor], heads: dict[str, Tensor]) -> Tensor:
    """Return the tensor for one entry of lpips' state dict, whose constants ``value`` already has."""
    if name.startswith("net."):  # net.slice2.3.weight is torchvision's features.3.weight
        return backbone["features." + ".".join(name.split(".")[2:])]
    if name.startswith("lin"):  # lin0.model.1.weight, which the list lins repeats as lins.0.model.1.weight
        return heads[name.replace("lins.", "lin")]
    return value
