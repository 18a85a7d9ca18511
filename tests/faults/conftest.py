"""A small disk, small networks and runs, commands that are refused."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rtil.cli.train import main as train
from rtil.generators import StyleGAN2Generator
from rtil.snapshot import save_snapshot

SMALL = ["--resolution", "8", "--channels", "{4:4,8:4}", "--mapping_layers", "1", "--z_dim", "8", "--w_dim", "8"]
SMALL += ["--batch", "4", "--device", "cpu"]
NETWORK = ["--resolution", "8", "--channels", "{4:8,8:8}", "--z_dim", "8", "--device", "cpu", "--rtil"]
OWN = {
    "stylegan2": ["--mapping_layers", "1", "--w_dim", "8", "--batch", "4"],
    "pggan": ["--codes", "1,2", "--batches", "{4:4,8:4}"],
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB; skips where one may not mount any."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small disk: needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_pictures: Callable[[Path, int, int], Path]) -> Path:
    """A current folder with twelve pictures in ``faces``."""
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path / "faces", 12, 8)
    return tmp_path


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    """A snapshot of 16 px with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(16, {4: 8, 8: 8, 16: 8}, z_dim=16, w_dim=16, mapping_layers=2)
    info = {"arch": "stylegan2", "data": "synthetic", "resolution": 16, "kimg": 1.0, "seed": 0, "sigma": 1}
    path = tmp_path / "snapshot-000001.safetensors"
    save_snapshot(path, generator, info | {"rtil": True})
    return path


def training(arch: str, kimg: float, out: str = "run") -> list[str]:
    """Return the options of a training of seconds; ``kimg`` counts thousands of 8 px pictures."""
    clocks = f"--kimg {kimg} --checkpoint_kimg 0.004 --log_kimg 0.02 --grid_kimg 0.04 --snapshot_kimg 0.04".split()
    return ["--arch", arch, *NETWORK, *OWN[arch], *clocks, "--data", "faces", "--out", out]


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run of four steps, its checkpoints at 12 and 16 images."""
    assert train([*SMALL, "--data", "faces", "--kimg", "0.016", "--checkpoint_kimg", "0.004", "--out", "run"]) == 0
    capsys.readouterr()
    return here / "run"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what runs a command that is refused; gives its line."""

    def call(main: Callable[..., int], *words: str) -> str:
        capsys.readouterr()
        assert main(list(words)) == 2
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1, printed.err
        assert printed.err.startswith("error: ")
        assert "Traceback" not in printed.err
        return printed.err

    return call
