"""Discriminators; :data:`DISCRIMINATORS` maps ``--arch`` to its class."""

from rtil.discriminators.pggan import PGGANDiscriminator
from rtil.discriminators.stylegan2 import StyleGAN2Discriminator

DISCRIMINATORS: dict[str, type[StyleGAN2Discriminator] | type[PGGANDiscriminator]] = {
    StyleGAN2Discriminator.arch: StyleGAN2Discriminator,
    PGGANDiscriminator.arch: PGGANDiscriminator,
}

__all__ = ["DISCRIMINATORS", "PGGANDiscriminator", "StyleGAN2Discriminator"]
