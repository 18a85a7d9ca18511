"""How the library is compiled and linked: all flags, the ninja file that uses them, the key that names the result."""

import hashlib
import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rtil.ops.toolchain import Compiler, CudaToolkit, cpu_features

LIBRARY = "librtil_ops.so"
TORCH_TARGET = 2 << 56 | 11 << 48  # the sources use the stable interface of torch 2.11, the oldest that rtil takes
COMMON_FLAGS = (
    "-std=c++20",
    "-O3",
    f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
    f"-DTORCH_TARGET_VERSION={TORCH_TARGET:#018x}",
)
# neither of the last two changes a value: without them gcc leaves loops with sqrt or comparisons unvectorised
CXX_FLAGS = ("-march=native", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
NVCC_FLAGS = ("--expt-relaxed-constexpr", "--extended-lambda", "-Xcompiler=-fPIC")
LINK_FLAGS = ("-shared", "-fopenmp", "-Wl,--no-undefined", "-Wl,--as-needed")
TORCH_LIBRARIES = ("torch", "torch_cpu", "c10")
TORCH_CUDA_LIBRARIES = ("torch_cuda", "c10_cuda", "cudart")


@dataclass(frozen=True)
class Recipe:
    """What is compiled with what.

    Attributes:
        sources: Folder; its .cpp files are compiled and, with CUDA, the .cu and .cpp files of its folder ``cuda``.
        compiler: For C++, also as the host compiler of nvcc.
        cuda: None for a CPU-only library.
        archs: GPU architectures, ("sm_90",).
    """

    sources: Path
    compiler: Compiler
    cuda: CudaToolkit | None
    archs: tuple[str, ...]

    def key(self) -> str:
        """Return 16 hex digits that change with anything the library depends on, but not with where things lie."""
        flags = [*COMMON_FLAGS, *CXX_FLAGS, *LINK_FLAGS, *TORCH_LIBRARIES]
        flags += [*NVCC_FLAGS, *self._gencode(), *TORCH_CUDA_LIBRARIES] if self.cuda else []
        what = {
            "sources": source_digest(self.sources, self.cuda is not None),
            "flags": flags,
            "compiler": [self.compiler.command[1:], self.compiler.version],
            "torch": torch.__version__,
            "cuda": self.cuda and self.cuda.version,
            "cpu": cpu_features(),
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def ninja_file(self, folder: Path) -> str:
        """Return the text of a ninja file that makes ``librtil_ops.so`` in ``folder``, where ninja will run."""
        torch_folder = Path(torch.__file__).parent
        headers = [torch_folder / "include", torch_folder / "include" / "torch" / "csrc" / "api" / "include"]
        headers += self.cuda.include if self.cuda else []
        include = [f"-I{self.sources}", *(word for path in headers for word in ("-isystem", str(path)))]
        libraries = [f"-L{torch_folder / 'lib'}", *(f"-l{name}" for name in TORCH_LIBRARIES)]
        if self.cuda:
            libraries += [f"-L{folder}", *(f"-l{name}" for name in TORCH_CUDA_LIBRARIES)]
        cxx = [*self.compiler.command, *COMMON_FLAGS, *CXX_FLAGS, *include]
        lines = [
            *_rule("cxx", f"{_shell(cxx)} -c $in -o $out"),
            *_rule("link", f"{_shell([*self.compiler.command, *LINK_FLAGS])} $in {_shell(libraries)} -o $out"),
        ]
        if self.cuda:
            nvcc = [str(self.cuda.nvcc), "-ccbin", self.compiler.command[0], *COMMON_FLAGS, *NVCC_FLAGS]
            lines += _rule("nvcc", f"{_shell([*nvcc, *self._gencode(), *include])} -c $in -o $out")
        objects = []
        for source in source_files(self.sources, self.cuda is not None):
            if source.suffix not in (".cpp", ".cu"):
                continue
            name = source.relative_to(self.sources).as_posix()
            objects.append(f"{name.replace('/', '-')}.o")
            lines.append(f"build {_path(objects[-1])}: {'nvcc' if source.suffix == '.cu' else 'cxx'} {_path(source)}")
        lines.append(f"build {LIBRARY}: link {' '.join(map(_path, objects))}")
        return "\n".join(lines) + "\n"

    def _gencode(self) -> list[str]:
        return [f"-gencode=arch=compute_{arch[3:]},code={arch}" for arch in self.archs]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_files(sources: Path, cuda: bool) -> list[Path]:
    """Return all files below a folder of sources, headers too, sorted; those in its folder ``cuda`` only with CUDA."""
    files = (path.relative_to(sources) for path in sources.rglob("*") if path.is_file())
    return [sources / path for path in sorted(files) if path.parts[0] != "cuda" or cuda]


def source_digest(sources: Path, cuda: bool) -> str:
    """Return the SHA-256 of the names and contents of the sources."""
    total = hashlib.sha256()
    for path in source_files(sources, cuda):
        total.update(f"{path.relative_to(sources).as_posix()} {digest(path)}\n".encode())
    return total.hexdigest()


def _rule(name: str, command: str) -> Iterable[str]:
    return (f"rule {name}", f"  command = {command}", f"  description = {name} $out")


def _shell(words: Sequence[str]) -> str:
    """Quote for the shell, and for ninja, to which $ is special."""
    return shlex.join(words).replace("$", "$$")


def _path(path: str | Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")
