"""A small generator with random weights, and planted measurements of its own pictures."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from rtil import seeds
from rtil.generators.base import LayeredGenerator
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.ranges import to_unit


class OnlyA(nn.Module):
    """An operator as another library would bring it: only ``A``."""

    def A(self, x: Tensor) -> Tensor:
        return x


class Planted(NamedTuple):
    generator: LayeredGenerator
    operator: OnlyA
    x: Tensor


@pytest.fixture(scope="session")
def small_generator() -> StyleGAN2Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = StyleGAN2Generator(16, {4: 12, 8: 12, 16: 8}, z_dim=24, w_dim=24, mapping_layers=2)
    with torch.no_grad():
        for block in G.blocks:
            for layer in (getattr(block, "conv0", None), block.conv1):
                if layer is not None:
                    layer.noise_strength.fill_(0.2)
            block.torgb.weight.mul_(0.3)
    return G


@pytest.fixture
def planted(small_generator: StyleGAN2Generator) -> Planted:
    """Four pictures G(z) with noise maps, in [0, 1] units."""
    G, rng = small_generator, seeds.generator(0, "test/planted")
    with torch.no_grad():
        x = to_unit(G(G.mapping(G.draw_z(4, rng)), G.draw_noise(4, rng)))
    return Planted(G, OnlyA(), x)


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path(tmp_path_factory.getbasetemp()) / "gaussian-fits"
    monkeypatch.setenv("RTIL_CACHE", str(folder))


@pytest.fixture(autouse=True)
def _auto_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests hold float32 equalities on every machine; bfloat16 layers have a test of their own."""
    monkeypatch.setattr("rtil.devices.cpu_multiplies_bfloat16", lambda: False)
