"""The compilers of this machine: a C++ compiler, ninja, and a CUDA toolkit that fits torch."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rtil.errors import RunError

CXX_NAMES = ("c++", "g++", "clang++")
MEANWHILE = "until then the native tier is used"
CUDA_MEND = f"pip install 'rtil[cuda-build]' brings it; {MEANWHILE}"
ASK_TIMEOUT_SECONDS = 60


class BuildError(RunError):
    """The fused ops cannot be built here: cause and mend in one line."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler.

    Attributes:
        command: The program with its absolute path, and arguments that ``$CXX`` adds.
        version: First line of what ``--version`` prints.
    """

    command: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class CudaToolkit:
    """A CUDA toolkit.

    Attributes:
        home: Folder with bin/nvcc and include/.
        release: As torch.version.cuda, "13.2".
        version: Of nvcc, "V13.2.86".
    """

    home: Path
    release: str
    version: str

    @property
    def nvcc(self) -> Path:
        """The CUDA compiler."""
        return self.home / "bin" / "nvcc"

    @property
    def include(self) -> list[Path]:
        """Folders of headers, CCCL's too."""
        return [path for path in (self.home / "include", self.home / "include" / "cccl") if path.is_dir()]

    @property
    def runtime(self) -> Path:
        """The shared CUDA runtime; pip's packages have it under its versioned name alone.

        Raises:
            BuildError: It is not there.
        """
        for folder in ("lib64", "lib"):
            for path in sorted((self.home / folder).glob("libcudart.so*")):
                return path
        raise BuildError(f"the CUDA toolkit in {self.home} has no libcudart.so: {CUDA_MEND}")


def find_compiler() -> Compiler:
    """Return the compiler that ``$CXX`` names, else the first of c++, g++, clang++ on the PATH.

    Raises:
        BuildError: There is none, or it does not run.
    """
    wish = shlex.split(os.environ.get("CXX", ""))
    for name, *arguments in [wish] if wish else [[name] for name in CXX_NAMES]:
        program = shutil.which(name)
        if program:
            command = (program, *arguments)
            try:
                return Compiler(command, (_ask([*command, "--version"]).splitlines() or [""])[0])
            except BuildError as error:
                raise BuildError(f"{error}: repair or remove it, or set CXX to another; {MEANWHILE}") from error
    looked = f"$CXX: {shlex.join(wish)}" if wish else ", ".join(CXX_NAMES)
    raise BuildError(f"no C++ compiler (looked for {looked}): install one, e.g. apt install g++; {MEANWHILE}")


def find_ninja() -> Path:
    """Return ninja: the pip package's, whose folder need not be on the PATH, else the first on the PATH.

    Raises:
        BuildError: There is none.
    """
    if importlib.util.find_spec("ninja"):
        import ninja

        packaged = Path(ninja.BIN_DIR) / "ninja"
        if packaged.is_file():
            return packaged
    program = shutil.which("ninja")
    if program is None:
        raise BuildError(f"no ninja: pip install ninja; {MEANWHILE}")
    return Path(program)


def find_cuda() -> CudaToolkit:
    """Return the toolkit whose major.minor is that of torch: of ``$CUDA_HOME``, of nvcc on the PATH, of pip's packages.

    Raises:
        BuildError: There is none that fits; says which were looked at.
    """
    wanted = torch.version.cuda
    if wanted is None:
        raise BuildError(f"torch {torch.__version__} was built without CUDA: pip install torch with CUDA")
    others = []
    for nvcc in _nvccs(wanted):
        try:
            return _toolkit(nvcc, wanted)
        except BuildError as error:
            others.append(str(error))
    found = ", ".join(dict.fromkeys(others)) or "none (looked in $CUDA_HOME, on the PATH and in pip's packages)"
    raise BuildError(f"torch {torch.__version__} needs nvcc {wanted}, found {found}: {CUDA_MEND}")


def gpu_archs() -> tuple[str, ...]:
    """Return the GPU architectures to compile for, as ("sm_80", "sm_90"), sorted.

    Those of the GPUs in this machine or, without any, of ``$TORCH_CUDA_ARCH_LIST``.

    Raises:
        BuildError: There are none, or one is not an architecture.
    """
    if torch.cuda.is_available():
        names = ["sm_{}{}".format(*torch.cuda.get_device_capability(i)) for i in range(torch.cuda.device_count())]
    else:
        listed = re.split(r"[;,\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip())
        names = [f"sm_{name.removesuffix('+PTX').replace('.', '')}" for name in listed if name]
    for name in names:
        if not re.fullmatch(r"sm_\d{2,3}[af]?", name):
            raise BuildError(f"GPU architecture '{name}' is not valid: write sm_80, or 8.0 in TORCH_CUDA_ARCH_LIST")
    if not names:
        raise BuildError("no GPU in this machine to compile for: name architectures, TORCH_CUDA_ARCH_LIST='8.0;9.0'")
    return tuple(sorted(set(names)))


def cpu_features() -> list[str]:
    """Return the instruction sets of this processor: what ``-march=native`` depends on, known without a compiler."""
    found = torch.cpu.get_capabilities()
    return sorted([str(found["architecture"]), *(name for name, value in found.items() if value is True)])


def _nvccs(wanted: str) -> Iterator[Path]:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if home := os.environ.get(variable):
            yield Path(home) / "bin" / "nvcc"
    if on_path := shutil.which("nvcc"):
        yield Path(on_path)
    yield from _packaged_nvccs(wanted)


def _packaged_nvccs(wanted: str) -> Iterator[Path]:
    packages = importlib.util.find_spec("nvidia")
    for folder in (packages.submodule_search_locations or []) if packages else []:
        nvcc = Path(folder) / f"cu{wanted.partition('.')[0]}" / "bin" / "nvcc"
        if nvcc.is_file():
            yield nvcc


def _toolkit(nvcc: Path, wanted: str) -> CudaToolkit:
    version = re.search(r"release (\d+\.\d+), (V\S+)", _ask([str(nvcc), "--version"]))
    if version is None:
        raise BuildError(f"{nvcc} (prints no version)")
    if version[1] != wanted:
        raise BuildError(f"nvcc {version[1]} ({nvcc})")
    for home in (nvcc.parents[1], nvcc.resolve().parents[1]):
        if (home / "include" / "cuda_runtime.h").is_file():
            return CudaToolkit(home, version[1], version[2])
    top = re.search(r"TOP=(.+)", _ask([str(nvcc), "--dryrun", "-E", "-x", "cu", os.devnull]))  # a script that calls it
    if top is None:
        raise BuildError(f"{nvcc} (without headers)")
    return CudaToolkit(Path(top[1]).resolve(), version[1], version[2])


def _ask(command: Sequence[str]) -> str:
    """Return what a program prints about itself.

    Raises:
        BuildError: It does not run.
    """
    try:
        done = subprocess.run(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ASK_TIMEOUT_SECONDS,
            check=True,
            text=True,
            errors="replace",
        )
    except subprocess.CalledProcessError as error:
        complaint = (str(error.stdout).strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        raise BuildError(f"{command[0]} does not run ({complaint})") from error
    except OSError as error:
        raise BuildError(f"{command[0]} does not run ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} hangs") from error
    return done.stdout
