"""Tiny trained-looking runs (random weights at 16 px, as commands find them in runs/train); the operations' tiers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lpips
import pytest
import torch

from rtil.generators import LayeredGenerator, PGGANGenerator, StyleGAN2Generator
from rtil.layout import resolutions
from rtil.ops import extension
from rtil.ops.build import BuildError
from rtil.quality import features
from rtil.snapshot import save_snapshot


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run folder below ``tmp_path/runs/train``."""

    def make(
        name: str, rtil: bool, resolution: int = 16, weights: int = 0, arch: str = "stylegan2", **info: Any
    ) -> Path:
        channels = dict.fromkeys(resolutions(resolution), 8)
        with torch.random.fork_rng():
            torch.manual_seed(weights)
            G: LayeredGenerator = StyleGAN2Generator(resolution, channels, z_dim=16, w_dim=16, mapping_layers=2)
            if arch == "pggan":
                G = PGGANGenerator(resolution, channels, z_dim=16)
        common = {
            "arch": arch,
            "data": "synthetic",
            "resolution": resolution,
            "kimg": 1.0,
            "seed": 0,
            "sigma": 1,
        }
        run = tmp_path / "runs/train" / name
        save_snapshot(run / "snapshot-000001.safetensors", G, common | {"rtil": rtil} | info)
        return run

    return make


@pytest.fixture
def workplace(tmp_path: Path, make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a vanilla and an RTIL run, and a cache of its own."""
    make_run("00000-stylegan2-vanilla-synthetic-16", rtil=False, weights=1)
    make_run("00001-stylegan2-rtil-synthetic-16", rtil=True, weights=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def random_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the networks that measure quality fixed random weights, which are at hand everywhere."""

    def load(net: str) -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network: torch.nn.Module = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
        return network.eval().requires_grad_(False)

    monkeypatch.setattr(features, "load_lpips", load)


def need(tier: str) -> None:
    """Skip the test where the tier cannot be had."""
    if tier == "ext":
        try:
            extension.load()
        except BuildError as error:
            pytest.skip(f"no compiled operations: {error}")


@pytest.fixture(params=["ref", "native", "ext"])
def tier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test in every tier."""
    need(request.param)
    monkeypatch.setenv("RTIL_OPS", request.param)
    return request.param


@pytest.fixture(params=["native", "ext"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test in every tier that is held against ``ref``."""
    need(request.param)
    monkeypatch.setenv("RTIL_OPS", request.param)
    return request.param


@pytest.fixture
def ext(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in the compiled tier."""
    need("ext")
    monkeypatch.setenv("RTIL_OPS", "ext")
