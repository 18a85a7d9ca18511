"""Discriminators, one for each architecture."""

from rtil.discriminators.pggan import PGGANDiscriminator
from rtil.discriminators.stylegan2 import StyleGAN2Discriminator

__all__ = ["PGGANDiscriminator", "StyleGAN2Discriminator"]
