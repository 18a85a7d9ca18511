"""Generators that can be entered between their blocks; :data:`GENERATORS` maps ``--arch`` to its class."""

from rtil.generators.base import LayeredGenerator, State
from rtil.generators.pggan import PGGAN_CHANNELS, PGGANGenerator
from rtil.generators.stylegan2 import RTIL_CHANNELS, StyleGAN2Generator

GENERATORS: dict[str, type[LayeredGenerator]] = {
    StyleGAN2Generator.arch: StyleGAN2Generator,
    PGGANGenerator.arch: PGGANGenerator,
}

__all__ = [
    "GENERATORS",
    "PGGAN_CHANNELS",
    "RTIL_CHANNELS",
    "LayeredGenerator",
    "PGGANGenerator",
    "State",
    "StyleGAN2Generator",
]
