"""Shim over pyproject.toml, the source of truth; it puts the presets of configs/ into the package.

RTIL_BUILD_OPS=1 also compiles the fused ops into it, for the torch, the processor and the GPUs of this machine, by the
code that compiles at first use. pip builds in an environment of its own, without torch; a Python started outside it
sees the torch that is installed.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
PREBUILD = "import sys; from rtil.ops import build; print(build.prebuild(build.Path(sys.argv[1])))"


class BuildPyAndPresets(build_py):
    """Put a copy of configs/ beside the Python files; installed editable, the package finds those of the checkout."""

    def run(self) -> None:
        """Copy both."""
        super().run()
        if not self.editable_mode:
            shutil.copytree(HERE / "configs", Path(self.build_lib) / "rtil" / "configs", dirs_exist_ok=True)


class BuildPyAndOps(BuildPyAndPresets):
    """Put librtil_ops.so beside the Python files: into the wheel, or into this folder if it is installed editable."""

    def run(self) -> None:
        """Copy the files, then compile."""
        super().run()
        package = HERE / "rtil" if self.editable_mode else Path(self.build_lib).resolve() / "rtil"
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if importlib.util.find_spec("torch") is None:
            environment.pop("PYTHONPATH", None)
        command = [sys.executable, "-c", PREBUILD, str(package / "ops" / "prebuilt")]
        done = subprocess.run(command, cwd=HERE, env=environment, stderr=subprocess.PIPE, text=True)  # noqa: S603
        if done.returncode:
            error, _, cause = (done.stderr.strip().splitlines() or ["error: no message"])[-1].partition(": ")
            if error == "ModuleNotFoundError":
                cause += ": first pip install torch ninja filelock platformdirs; uv needs --no-build-isolation, too"
            sys.exit(f"RTIL_BUILD_OPS=1: {cause}")


class WithBinary(Distribution):
    """A distribution for one platform and one Python."""

    def has_ext_modules(self) -> bool:
        """Make the wheel's name say so."""
        return True


if os.environ.get("RTIL_BUILD_OPS") == "1":
    setup(cmdclass={"build_py": BuildPyAndOps}, distclass=WithBinary)
else:
    setup(cmdclass={"build_py": BuildPyAndPresets})
