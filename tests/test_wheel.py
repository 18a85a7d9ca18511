"""What is installed from the source distribution works outside the checkout: the commands, the presets, the pair."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rtil

ROOT = Path(__file__).resolve().parents[1]
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "runs", "site", "prebuilt", "__pycache__", "*.egg-info")
SDIST = "from setuptools.build_meta import build_sdist; build_sdist('dist')"
EVERY_MODULE = """
import importlib, pkgutil, sys
for package in map(importlib.import_module, ("rtil", "ilo", "mganprior")):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
print("\\n".join(filter(None, files)))
"""
NETWORK = "--resolution 16 --channels {4:8,8:8,16:8} --mapping_layers 1 --z_dim 8 --w_dim 8 --batch 4 --kimg 0.008"

pytestmark = pytest.mark.slow


def run(*command, cwd, **environment):
    """Run a command with nothing of the checkout on Python's path; returns what it printed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """The folder of an installation, made from the source distribution of a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    run(sys.executable, "-c", SDIST, cwd=folder / "source")
    (sdist,) = (folder / "source" / "dist").glob("rtil-*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, sdist, cwd=folder)
    (wheel,) = folder.glob("rtil-*.whl")
    run(*pip, "install", "--no-deps", "--target", folder / "target", wheel, cwd=folder)
    return folder / "target"


def test_nothing_but_the_packages_is_installed(target):
    names = {path.name for path in target.iterdir()}
    assert names == {"rtil", "ilo", "mganprior", "bin", f"rtil-{rtil.__version__}.dist-info"}


def test_every_module_comes_from_the_installation(target, tmp_path):
    printed = run(sys.executable, "-c", EVERY_MODULE, cwd=tmp_path, PYTHONPATH=str(target))
    files = [Path(line) for line in printed.splitlines() if os.path.isabs(line)]  # torch makes modules without a folder
    assert target / "rtil" / "training" / "run.py" in files
    below_checkout = [path for path in files if path.resolve().is_relative_to(ROOT)]
    assert [path for path in below_checkout if not path.is_relative_to(sys.prefix)] == []


def test_the_command_works_in_an_empty_folder(target, make_pictures, tmp_path):
    def command(words):
        return run(target / "bin" / "rtil", *words.split(), cwd=tmp_path, PYTHONPATH=str(target))

    assert command("--version").startswith(f"rtil {rtil.__version__}, torch ")
    make_pictures(tmp_path / "photos", 12, 16)
    command(f"train --config stylegan2_rtil_64 {NETWORK} --data photos --out own --device cpu")
    small = "--steps 2 --device cpu"
    pair = "--checkpoints vanilla=shipped:vanilla rtil=shipped:rtil --images 2 --lpips none --no_linear --out table"
    assert "vs vanilla" in command(f"eval --method csgm {pair} {small}")
    command(f"reconstruct --input photos/0.png --fit --task inversion --snapshot own --out found {small}")
    assert (tmp_path / "found" / "reconstruction.png").is_file()
