"""Discriminators; :data:`DISCRIMINATORS` maps ``--arch`` to its class."""

from rtil.discriminators.stylegan2 import StyleGAN2Discriminator

DISCRIMINATORS = {StyleGAN2Discriminator.arch: StyleGAN2Discriminator}

__all__ = ["DISCRIMINATORS", "StyleGAN2Discriminator"]
