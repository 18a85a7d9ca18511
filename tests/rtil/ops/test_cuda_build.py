"""The CUDA library compiles, links and loads on machines without a GPU, for the architectures of A100 and H100."""

import importlib.metadata
import os
import subprocess
import sys
import time

import pytest
import torch

from rtil.files import cache_folder
from rtil.ops import build, toolchain
from rtil.ops.build import BuildError
from rtil.ops.build_recipe import Recipe

# ptxas then fails where a kernel's registers do not suffice, or where it has an array in memory
NO_SPILLS = "-Xptxas=-warn-spills,-warn-lmem-usage,-Werror"
WITHOUT_SPILLS = ("13.0", "13.2")  # releases whose choice of registers was looked at
LOOK = """
import sys, torch
torch.ops.load_library(sys.argv[1])
for name in ("upfirdn2d", "bias_act", "bias_act_grad", "styled_tail", "styled_tail_grad", "counter_normal"):
    for key in ("CPU", "CUDA"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"rtil::{name}", key), (name, key)
print("loaded")
"""


def must_build():
    """In CI, and where the extra is there but does not do what it is there for."""
    if "CI" in os.environ:
        return True
    try:
        version = importlib.metadata.version("nvidia-cuda-nvcc")
    except importlib.metadata.PackageNotFoundError:
        return False
    return torch.version.cuda is not None and f"{version}.".startswith(f"{torch.version.cuda}.")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_cuda_library_compiles_links_and_loads(arch, monkeypatch, record_property):
    try:
        recipe = Recipe(build.SOURCES, toolchain.find_compiler(), toolchain.find_cuda(), (arch,))
    except BuildError as error:
        if must_build():
            raise
        pytest.skip(str(error))
    if recipe.cuda.release in WITHOUT_SPILLS:
        monkeypatch.setenv("RTIL_CACHE", str(cache_folder() / "without-spills"))  # all there has been compiled so
        monkeypatch.setenv("NVCC_APPEND_FLAGS", NO_SPILLS)
    began = time.monotonic()
    path = build.make(recipe)
    report = f"{recipe.cuda.version} for {arch}: {time.monotonic() - began:.0f} s"
    record_property("cuda_build", report)
    print(report)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", LOOK, str(path)], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "loaded", done.stderr
