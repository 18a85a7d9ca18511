"""Weights that are not ours: the ImageNet backbones of LPIPS, and classifiers.

Nothing here reaches the network except ``rtil weights lpips``, and a torchvision classifier that is asked for
by its name alone.
"""

from rtil.weights.lpips_network import load_lpips

__all__ = ["load_lpips"]
