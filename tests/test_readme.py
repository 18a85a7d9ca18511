"""Every command and the Python example of the README run, made small."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.generators import StyleGAN2Generator
from rtil.interop.rosinality_export import rosinality_checkpoint
from tests.documents import blocks, commands, small

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = commands(README)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as a clone's root: the scripts, the presets, a few photos, a checkpoint of another project."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("train.py", "eval.py", "configs", "datasets"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / "photos" / f"{i:02}.png")
    Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / "photo.png")
    theirs = StyleGAN2Generator(16, {4: 8, 8: 8, 16: 8}, z_dim=16, w_dim=16, mapping_layers=2)
    torch.save(rosinality_checkpoint(theirs), folder / "stylegan2-ffhq-config-f.pt")
    return folder


@pytest.fixture(scope="module")
def succeeded():
    """The commands that ran, which later ones build on."""
    return []


def need(commands, succeeded):
    """Skip a test that builds on what another one did not make."""
    failed = [command for command in commands if command not in succeeded]
    if failed:
        pytest.skip(f"needs what this command makes, which failed or was not selected: {failed[0]}")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=[command[:60] for command in COMMANDS])
def test_command(command, folder, succeeded):
    need(COMMANDS[: COMMANDS.index(command)], succeeded)
    words = shlex.split(command)
    program = {"python": [sys.executable], "rtil": [sys.executable, "-m", "rtil"]}[words[0]]
    done = subprocess.run([*program, *words[1:], *small(command)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    succeeded.append(command)


@pytest.mark.slow
def test_what_the_commands_made(folder, succeeded):
    assert len(COMMANDS) >= 12
    need(COMMANDS, succeeded)
    assert (folder / "samples.png").exists()
    assert (folder / "runs" / "photo" / "reconstruction.png").exists()
    assert len(list((folder / "runs" / "eval").glob("*/summary.csv"))) == 5


@pytest.mark.slow
def test_python_example(folder, succeeded, monkeypatch):
    need(COMMANDS, succeeded)
    monkeypatch.chdir(folder)
    (code,) = blocks(README, "python")
    names = {"pictures": torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
    exec(code.replace("(50, 30, 30)", "(2, 2, 2)"), names)  # noqa: S102
    assert names["result"].x.shape == (2, 3, 32, 32)
    assert names["result"].status == ["ok", "ok"]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
