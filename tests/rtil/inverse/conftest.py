"""An empty cache, and a small generator of random weights."""

from pathlib import Path

import pytest
import torch

from rtil.generators.stylegan2 import StyleGAN2Generator


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def generator() -> StyleGAN2Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleGAN2Generator(16, {4: 8, 8: 8, 16: 8}, z_dim=8, w_dim=8, mapping_layers=2)
