"""Weights that are not ours: the ImageNet backbones of LPIPS, found on this machine or fetched once by command.

Nothing here reaches the network except ``python -m rtil.weights lpips``.
"""

from rtil.weights.lpips_network import load_lpips

__all__ = ["load_lpips"]
