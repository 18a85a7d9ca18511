"""Generators that can be entered between their blocks; :data:`GENERATORS` maps ``--arch`` to its class."""

from rtil.generators.base import LayeredGenerator, State
from rtil.generators.stylegan2 import RTIL_CHANNELS, StyleGAN2Generator

GENERATORS: dict[str, type[LayeredGenerator]] = {StyleGAN2Generator.arch: StyleGAN2Generator}

__all__ = ["GENERATORS", "RTIL_CHANNELS", "LayeredGenerator", "State", "StyleGAN2Generator"]
