"""The shared library of the fused ops: built ahead of time, found in the cache, or compiled at first use.

The cache holds one folder for each combination of sources, flags, torch, CUDA, compilers, processor and GPUs, named by
their hash. A library is compiled beside it and renamed, so what is there is whole. Processes that want the same one at
once share an flock, which dies with its holder; torch's own build lock is a file that outlives a killed process. That,
and that torch settles on a CUDA toolkit when it is imported, is why ninja is called here and not through
``torch.utils.cpp_extension``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from rtil.files import cache_folder
from rtil.locks import Timeout, acquire
from rtil.ops import prebuilt
from rtil.ops.build_log import explain
from rtil.ops.build_recipe import LIBRARY, Recipe, digest
from rtil.ops.toolchain import MEANWHILE, BuildError, find_compiler, find_cuda, find_ninja, gpu_archs

__all__ = ["BuildError", "found", "library", "make", "prebuild"]

SOURCES = Path(__file__).parent / "csrc"
TIMEOUT_SECONDS = 900
CHECKSUM = "sha256"
"""File beside a cached library."""
TYPICAL_SECONDS = {False: 25, True: 85}  # on one core, without and with CUDA (of that 60 for one GPU architecture)


def library(cuda: bool) -> Path:
    """Return the shared library, building it if it is nowhere.

    Looked for beside the package (``RTIL_BUILD_OPS=1 pip install .``), then in the cache.

    Args:
        cuda: With the CUDA kernels; that needs nvcc, the CPU library only a C++ compiler.

    Raises:
        BuildError: It cannot be built: one line with cause and mend.
    """
    return found(cuda) or make(_recipe(cuda))


def found(cuda: bool) -> Path | None:
    """Return the library if it is there already; builds nothing.

    Raises:
        BuildError: It was not built ahead of time, and it could not be built either.
    """
    if prebuilt.problem(SOURCES, gpu_archs() if cuda else (), prebuilt.PREBUILT) is None:
        return prebuilt.PREBUILT / LIBRARY
    cached = _cached(_recipe(cuda))
    return cached if is_whole(cached) else None


def prebuild(folder: Path) -> Path:
    """Build for this machine and put the library into a folder of the package; returns it.

    With CUDA kernels if this machine has a GPU, or if ``$TORCH_CUDA_ARCH_LIST`` says for which.

    Raises:
        BuildError: It cannot be built.
    """
    cuda = torch.cuda.is_available() or (torch.version.cuda is not None and "TORCH_CUDA_ARCH_LIST" in os.environ)
    recipe = _recipe(cuda)
    return prebuilt.put(make(recipe), recipe, folder)


def make(recipe: Recipe) -> Path:
    """Return the library of a recipe from the cache; compile it there, or wait for another process that does.

    Raises:
        BuildError: It does not compile, or the cache cannot be written.
    """
    cached = _cached(recipe)
    ops, key = cached.parents[1], cached.parent.name
    failed = ops / f"{key}.log"
    try:
        ops.mkdir(parents=True, exist_ok=True)
        before = _changed(failed)
        with _locked(ops / f"{key}.lock"):
            if is_whole(cached):
                return cached
            if cached.is_file():
                _say(f"{cached} is damaged, or of an older version without a checksum: it is built again")
            if _changed(failed) not in (None, before):  # by the process that was waited for
                raise _failure(failed)
            for abandoned in ops.glob(f"{key}.tmp-*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f"{key}.tmp-", dir=ops, ignore_cleanup_errors=True) as folder:
                _compile(recipe, Path(folder), failed)
                shutil.rmtree(cached.parent, ignore_errors=True)
                Path(folder).rename(cached.parent)
            with suppress(OSError):  # the log of an earlier attempt; may be absent or another user's
                failed.unlink()
            return cached
    except OSError as error:
        raise BuildError(
            f"the fused ops cannot be built in {ops} ({error.strerror or error}): set RTIL_CACHE to a folder with room "
            f"that can be written; {MEANWHILE}"
        ) from error


def is_whole(cached: Path) -> bool:
    """Return whether a library is there as it was built: to load a part of one ends the process."""
    try:
        return cached.with_name(CHECKSUM).read_text(encoding="utf-8") == digest(cached)
    except (OSError, UnicodeDecodeError):
        return False


def _recipe(cuda: bool) -> Recipe:
    if sys.platform != "linux":
        raise BuildError(f"the fused ops are built on Linux only, this is {sys.platform}: the native tier is used")
    if not any(SOURCES.rglob("*.cpp")):
        raise BuildError(f"no sources in {SOURCES}: install rtil again; {MEANWHILE}")
    return Recipe(SOURCES, find_compiler(), find_cuda() if cuda else None, gpu_archs() if cuda else ())


def _cached(recipe: Recipe) -> Path:
    return cache_folder() / "ops" / recipe.key() / LIBRARY


def _changed(path: Path) -> tuple[int, int] | None:
    """Return what differs when a file is written anew, whatever the clock says; None where there is none."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        lock = acquire(path)
    except Timeout:
        _say("waiting for another process that builds the fused ops")
        try:
            lock = acquire(path, TIMEOUT_SECONDS)
        except Timeout as error:
            raise BuildError(
                f"another process has been building the fused ops for {TIMEOUT_SECONDS} seconds (it holds {path}): "
                f"end it and start again; {MEANWHILE}"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _compile(recipe: Recipe, folder: Path, failed: Path) -> None:
    """Make the library in a folder and nothing else; a log of what failed is kept as ``failed``."""
    program = find_ninja()
    (folder / "build.ninja").write_text(recipe.ninja_file(folder), encoding="utf-8")
    if recipe.cuda:
        (folder / "libcudart.so").symlink_to(recipe.cuda.runtime)
    jobs = os.environ.get("MAX_JOBS") or str(len(os.sched_getaffinity(0)))  # Linux, as is all of this
    seconds = TYPICAL_SECONDS[recipe.cuda is not None]
    _say(f"building the fused ops with {recipe.compiler.version} (about {seconds} s on one core, once)")
    log = folder / "build.log"
    with log.open("wb") as output:
        ninja = subprocess.Popen([program, "-j", jobs], cwd=folder, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            code = ninja.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"building the fused ops took over {TIMEOUT_SECONDS} seconds: try again") from error
        finally:
            ninja.terminate()  # Ctrl-C, too: ninja then ends its compilers
            ninja.wait()
    if code:
        log.replace(failed)
        raise _failure(failed)
    for path in folder.iterdir():
        if path.name != LIBRARY:
            path.unlink()
    (folder / CHECKSUM).write_text(digest(folder / LIBRARY), encoding="utf-8")
    with (folder / LIBRARY).open("rb") as file:
        os.fsync(file.fileno())
    folder.chmod(0o755)  # a cache may be shared


def _failure(log: Path) -> BuildError:
    cause, mend = explain(log.read_text(encoding="utf-8", errors="replace"))
    return BuildError(f"the fused ops did not compile: {cause} (log: {log}): {mend}; {MEANWHILE}")


def _say(line: str) -> None:
    print(f"rtil: {line}", file=sys.stderr, flush=True)
