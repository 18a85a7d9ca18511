"""The building of the shared library, mostly with scripts in the place of compilers."""

import ctypes
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from rtil.ops import build, prebuilt, toolchain
from rtil.ops.build import BuildError
from rtil.ops.build_log import explain

ROOT = Path(__file__).resolve().parents[3]
FORK = multiprocessing.get_context("fork")
COMPILER = """#!/bin/sh
case "$*" in *--version*) echo "{name} 1.0, release 99.1, V99.1.5"; exit;; esac
echo "$*" >> {folder}/calls
if [ -e {folder}/slow ]; then sleep 60; fi
if [ -e {folder}/wrong ]; then sleep 1; echo "a.cpp:3:1: error: 'x' does not name a type"; exit 1; fi
while [ "$1" != -o ]; do shift; done
echo made > "$2"
"""


class Workshop:
    """A folder of sources, a cache, and compilers that only count how often they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sources, self.cache = folder, folder / "sources", folder / "cache"
        self.bin = folder / "bin"
        self.write("sources/a.cpp", '#include "a.h"\nextern "C" int answer() { return ANSWER; }\n')
        self.write("sources/a.h", "#define ANSWER 42\n")
        self.write("sources/cuda/k.cu", "// a kernel\n")
        self.script("bin/c++", COMPILER.format(name="fake c++", folder=folder))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def script(self, name: str, text: str) -> Path:
        path = self.write(name, text)
        path.chmod(0o755)
        return path

    def has(self, name: str, there: bool = True) -> None:
        self.write(name, "") if there else (self.folder / name).unlink()

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    workshop = Workshop(tmp_path)
    monkeypatch.setattr(build, "SOURCES", workshop.sources)
    monkeypatch.setattr(prebuilt, "PREBUILT", tmp_path / "prebuilt")
    monkeypatch.setenv("RTIL_CACHE", str(workshop.cache))
    monkeypatch.setenv("PATH", f"{workshop.bin}:/usr/bin:/bin")
    for name in ("CXX", "CUDA_HOME", "CUDA_PATH", "TORCH_CUDA_ARCH_LIST"):
        monkeypatch.delenv(name, raising=False)
    return workshop


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_a_real_build_can_be_loaded(workshop):
    (workshop.bin / "c++").unlink()
    assert ctypes.CDLL(str(build.library(cuda=False))).answer() == 42


def test_built_once_and_then_found(workshop, capfd):
    assert build.found(cuda=False) is None
    first = build.library(cuda=False)
    assert first.is_file()
    assert len(workshop.calls) == 2  # one source, and the link
    assert "building the fused ops with fake c++ 1.0" in capfd.readouterr().err
    assert build.library(cuda=False) == build.found(cuda=False) == first
    assert len(workshop.calls) == 2
    assert capfd.readouterr().err == ""
    assert {path.name for path in first.parent.iterdir()} == {"librtil_ops.so", "sha256"}


def test_a_damaged_library_is_never_found_but_built_again(workshop, capfd):
    library = build.library(cuda=False)
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 2])  # to load it would end the process
    assert build.found(cuda=False) is None
    capfd.readouterr()
    assert build.library(cuda=False) == library
    assert "librtil_ops.so is damaged, or of an older version without a checksum: it is built again" in (
        capfd.readouterr().err
    )
    assert library.read_bytes() == whole


@pytest.mark.parametrize("change", ["header", "source", "compiler", "torch", "processor", "flags"])
def test_everything_it_depends_on_makes_it_anew(workshop, monkeypatch, change):
    first = build.library(cuda=False)
    if change == "header":
        workshop.write("sources/a.h", "#define ANSWER 43\n")
    elif change == "source":
        workshop.write("sources/cpu/b.cpp", "\n")
    elif change == "compiler":
        workshop.script("bin/c++", COMPILER.format(name="newer c++", folder=workshop.folder))
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "99.0")
    elif change == "processor":
        monkeypatch.setattr("rtil.ops.build_recipe.cpu_features", lambda: ["x86_64", "abacus"])
    else:
        monkeypatch.setattr("rtil.ops.build_recipe.COMMON_FLAGS", ("-O0",))
    second = build.library(cuda=False)
    assert second.is_file()
    assert second.parent != first.parent
    assert second.parent.parent == first.parent.parent


def test_cuda_sources_are_none_of_the_cpu_library(workshop):
    first = build.library(cuda=False)
    workshop.write("sources/cuda/k.cu", "// another kernel\n")
    assert build.library(cuda=False) == first
    assert not any("k.cu" in call for call in workshop.calls)


def test_folders_with_blanks(workshop, monkeypatch):
    moved = workshop.folder / "so: ur$ces"
    workshop.sources.rename(moved)
    monkeypatch.setattr(build, "SOURCES", moved)
    monkeypatch.setenv("RTIL_CACHE", str(workshop.folder / "ca che"))
    assert build.library(cuda=False).is_file()
    assert any(f"-c {moved}/a.cpp" in call for call in workshop.calls)


def _ask(answers, group: bool) -> None:
    if group:
        os.setpgid(0, 0)
    try:
        answers.put(str(build.library(cuda=False)))
    except BuildError as error:
        answers.put(f"error: {error}")


def _processes(count: int, group: bool = False):
    answers = FORK.Queue()
    processes = [FORK.Process(target=_ask, args=(answers, group)) for _ in range(count)]
    for process in processes:
        process.start()
    return processes, answers


def test_two_processes_at_once_build_once(workshop):
    workshop.script("bin/c++", COMPILER.format(name="c++", folder=workshop.folder).replace("while", "sleep 0.5; while"))
    processes, answers = _processes(2)
    got = [answers.get(timeout=60) for _ in processes]
    assert got[0] == got[1]
    assert Path(got[0]).is_file()
    assert len(workshop.calls) == 2


def test_two_processes_at_once_fail_once(workshop):
    workshop.has("wrong")
    processes, answers = _processes(2)
    got = [answers.get(timeout=60) for _ in processes]
    assert got[0] == got[1]
    assert "error: 'x' does not name a type" in got[0]
    assert len(workshop.calls) == 1


def test_killed_while_it_built_and_started_again(workshop):
    workshop.has("slow")
    (process,), _ = _processes(1, group=True)
    while not workshop.calls:
        time.sleep(0.01)
    assert list((workshop.cache / "ops").glob("*.tmp-*"))
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    workshop.has("slow", there=False)
    library = build.library(cuda=False)
    assert library.is_file()
    assert sorted(path.name for path in library.parents[1].iterdir()) == [
        library.parent.name,
        f"{library.parent.name}.lock",
    ]


def test_interrupted_builds_leave_nothing_and_are_not_remembered(workshop):
    workshop.has("slow")

    def interrupt(signal_number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1)
        with pytest.raises(KeyboardInterrupt):
            build.library(cuda=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not list((workshop.cache / "ops").glob("*.tmp-*"))
    workshop.has("slow", there=False)
    assert build.library(cuda=False).is_file()


def test_a_lock_that_nobody_holds_stops_nobody(workshop):
    library = build.library(cuda=False)
    shutil.rmtree(library.parent)
    assert library.parent.with_suffix(".lock").exists()
    start = time.monotonic()
    assert build.library(cuda=False) == library
    assert time.monotonic() - start < 5


def test_a_lock_that_is_held_too_long(workshop, monkeypatch, capfd):
    library = build.library(cuda=False)
    shutil.rmtree(library.parent)
    monkeypatch.setattr(build, "TIMEOUT_SECONDS", 0.2)
    with library.parent.with_suffix(".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BuildError, match=r"another process has been building.*\.lock.*native tier is used"):
            build.library(cuda=False)
    assert "waiting for another process" in capfd.readouterr().err


def test_a_build_that_hangs(workshop, monkeypatch):
    workshop.has("slow")
    monkeypatch.setattr(build, "TIMEOUT_SECONDS", 0.5)
    with pytest.raises(BuildError, match=r"took over 0\.5 seconds"):
        build.library(cuda=False)


def test_no_compiler(workshop, monkeypatch):
    monkeypatch.setenv("PATH", str(workshop.folder))
    message = (
        r"no C\+\+ compiler \(looked for c\+\+, g\+\+, clang\+\+\): install one, e.g. apt install g\+\+; until then"
    )
    with pytest.raises(BuildError, match=message):
        build.library(cuda=False)
    monkeypatch.setenv("CXX", "armcc --fast")
    with pytest.raises(BuildError, match=r"looked for \$CXX: armcc --fast"):
        build.library(cuda=False)


def test_cxx_comes_first(workshop, monkeypatch):
    other = workshop.script("bin/other", COMPILER.format(name="other", folder=workshop.folder))
    monkeypatch.setenv("CXX", f"{other} -fast")
    assert toolchain.find_compiler().command == (str(other), "-fast")
    assert build.library(cuda=False).is_file()


def test_a_compiler_that_does_not_run(workshop):
    workshop.script("bin/c++", "#!/bin/sh\necho broken install; exit 3\n")
    with pytest.raises(BuildError, match=r"c\+\+ does not run \(broken install\): .*native tier is used"):
        build.library(cuda=False)


def test_a_compile_error_is_told_once_and_its_log_kept(workshop):
    workshop.has("wrong")
    with pytest.raises(BuildError) as caught:
        build.library(cuda=False)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("the fused ops did not compile: a.cpp:3:1: error: 'x' does not name a type (log: ")
    assert Path(message.partition("(log: ")[2].partition(")")[0]).is_file()
    workshop.has("wrong", there=False)
    library = build.library(cuda=False)
    assert library.is_file()
    assert sorted(path.name for path in library.parents[1].iterdir()) == [
        library.parent.name,
        f"{library.parent.name}.lock",
    ]


def test_a_cache_that_cannot_be_written(workshop, monkeypatch):
    monkeypatch.setenv("RTIL_CACHE", str(workshop.write("file", "not a folder")))
    with pytest.raises(BuildError, match="set RTIL_CACHE to a folder"):
        build.library(cuda=False)


def test_no_sources(workshop):
    shutil.rmtree(workshop.sources)
    with pytest.raises(BuildError, match="no sources in"):
        build.library(cuda=False)


@pytest.mark.parametrize(
    ("output", "cause", "mend"),
    [
        ("/usr/bin/ld: cannot find -lgomp: No such file", "/usr/bin/ld: cannot find -lgomp: No such file", "OpenMP"),
        ("#error -- unsupported GNU version! gcc later than 15", "#error -- unsupported GNU version!", "set CXX"),
        ("nvcc fatal   : Unsupported gpu architecture 'compute_999'", "nvcc fatal", "know this GPU"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "c++: fatal error: Killed", "MAX_JOBS=1"),
        ("ninja: fatal: invalid -j parameter", "ninja: fatal: invalid -j parameter", "MAX_JOBS to a number"),
        ("a.s: Fatal error: can't write 12 bytes: No space left on device", "a.s: Fatal error", "disk space"),
        ("ptxas fatal   : Unsupported .version 9.3; current version is '9.2'", "ptxas fatal", "force-reinstall"),
        ("b.cpp:1:1: error: expected ';'", "b.cpp:1:1: error: expected ';'", "look there"),
    ],
)
def test_what_a_log_says(output, cause, mend):
    log = f"[1/3] cxx a.o\nFAILED: [code=1] b.o\nc++ -Wno-error -c /x/error.cpp -o b.o\n{output}\nninja: build stopped."
    found = explain(log)
    assert found[0].startswith(cause)
    assert mend in found[1]


@pytest.fixture
def cuda_world(workshop, monkeypatch):
    """No CUDA toolkit but those that the test makes, and a torch with CUDA 99.1."""
    monkeypatch.setattr(torch.version, "cuda", "99.1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0")
    monkeypatch.setattr(toolchain, "_packaged_nvccs", lambda wanted: [])
    monkeypatch.setenv("PATH", str(workshop.bin))
    return workshop


def toolkit(workshop, folder, release="99.1"):
    text = COMPILER.format(name="nvcc", folder=workshop.folder).replace("99.1", release)
    workshop.script(f"{folder}/bin/nvcc", text.replace("sleep", "/bin/sleep"))
    workshop.write(f"{folder}/include/cuda_runtime.h", "")
    workshop.write(f"{folder}/lib/libcudart.so.99", "")
    return workshop.folder / folder


def test_the_first_toolkit_that_fits_is_taken(cuda_world, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(toolkit(cuda_world, "old", "98.7")))
    monkeypatch.setenv("PATH", f"{toolkit(cuda_world, 'right')}/bin")
    found = toolchain.find_cuda()
    assert found.home == cuda_world.folder / "right"
    assert (found.release, found.version) == ("99.1", "V99.1.5")
    assert found.runtime.name == "libcudart.so.99"


def test_a_script_that_calls_nvcc_knows_where_it_is(cuda_world):
    home = toolkit(cuda_world, "right")
    cuda_world.script(
        "bin/nvcc",
        f'#!/bin/sh\ncase "$*" in *--dryrun*) echo "#$ TOP={home}/bin/..";; *) exec {home}/bin/nvcc "$@";; esac',
    )
    assert toolchain.find_cuda().home == home


def test_nvcc_of_another_version(cuda_world, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(toolkit(cuda_world, "old", "98.7")))
    message = (
        r"torch \S+ needs nvcc 99.1, found nvcc 98.7 \(.*/old/bin/nvcc\): pip install 'rtil\[cuda-build\]' brings it"
    )
    with pytest.raises(BuildError, match=message):
        build.library(cuda=True)


def test_nvcc_of_another_version_need_not_be_whole(cuda_world, monkeypatch):
    bare = toolkit(cuda_world, "old", "98.7")
    shutil.rmtree(bare / "include")
    monkeypatch.setenv("CUDA_HOME", str(bare))
    with pytest.raises(BuildError, match=r"needs nvcc 99.1, found nvcc 98.7 \(.*/old/bin/nvcc\): pip install"):
        build.library(cuda=True)
    monkeypatch.setenv("CUDA_HOME", str(cuda_world.folder / "gone"))
    with pytest.raises(BuildError, match=r"found .*gone/bin/nvcc does not run \(No such file or directory\): pip inst"):
        build.library(cuda=True)


def test_no_nvcc_at_all(cuda_world, monkeypatch):
    with pytest.raises(BuildError, match=r"found none \(looked in \$CUDA_HOME.*rtil\[cuda-build\]"):
        build.library(cuda=True)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(BuildError, match="without CUDA"):
        build.library(cuda=True)


def test_the_cpu_library_needs_no_nvcc(cuda_world, monkeypatch):
    monkeypatch.setenv("PATH", f"{cuda_world.bin}:/usr/bin:/bin")
    assert build.library(cuda=False).is_file()


def test_a_library_with_cuda(cuda_world, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(toolkit(cuda_world, "right")))
    monkeypatch.setenv("PATH", f"{cuda_world.bin}:/usr/bin:/bin")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0;8.0")
    both = build.library(cuda=True)
    (kernel,) = [call for call in cuda_world.calls if "-gencode" in call]
    assert "-gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90,code=sm_90" in kernel
    assert f"-ccbin {cuda_world.bin}/c++" in kernel
    assert any("-lcudart" in call and "-shared" in call for call in cuda_world.calls)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0+PTX 9.0")
    assert build.library(cuda=True) == both
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    assert build.library(cuda=True) != both
    assert build.library(cuda=False) != both


def test_gpu_architectures(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0+PTX; 8.0")
    assert toolchain.gpu_archs() == ("sm_80", "sm_90")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0a")
    assert toolchain.gpu_archs() == ("sm_90a",)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "Hopper")
    with pytest.raises(BuildError, match="GPU architecture 'Hopper' is not valid"):
        toolchain.gpu_archs()
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "")
    with pytest.raises(BuildError, match="no GPU in this machine"):
        toolchain.gpu_archs()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (9, 0))
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0")
    assert toolchain.gpu_archs() == ("sm_90",)


def test_a_prebuilt_library_needs_no_compiler(workshop, monkeypatch):
    ahead = build.prebuild(prebuilt.PREBUILT)
    monkeypatch.setenv("PATH", "")
    assert build.library(cuda=False) == ahead
    assert build.found(cuda=False) == ahead


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"torch": "1.0"}, "built for torch 1.0, this is"),
        ({"cpu": ["x86_64", "amx_fp128"]}, "built for a processor with amx_fp128"),
        ({"sources": "0"}, "built from other sources"),
        ({"library": "0"}, "it is damaged"),
        ({"torch": 2}, "torch in its manifest is 2: valid is text"),
    ],
)
def test_a_prebuilt_library_that_does_not_fit_is_left_alone(workshop, change, problem):
    ahead = build.prebuild(prebuilt.PREBUILT)
    manifest = ahead.with_name(prebuilt.MANIFEST)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    assert prebuilt.problem(build.SOURCES, (), ahead.parent).startswith(problem)
    assert build.library(cuda=False) != ahead


def test_a_prebuilt_library_without_the_gpu(workshop):
    ahead = build.prebuild(prebuilt.PREBUILT)
    assert prebuilt.problem(build.SOURCES, ("sm_90",), ahead.parent) == "built without sm_90"


def test_nothing_happens_at_import(workshop, monkeypatch):
    code = (
        "import sys, torch, rtil.ops; print(hasattr(torch.ops.rtil, 'upfirdn2d'), 'rtil.ops.selftest' in sys.modules)"
    )
    environment = {**os.environ, "PATH": "", "PYTHONPATH": str(ROOT), "RTIL_OPS": "ext"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr
    assert done.stderr == ""
    assert not workshop.cache.exists()


def test_a_wheel_with_the_library_and_its_sources(workshop):
    project = workshop.folder / "project"
    shutil.copytree(ROOT / "rtil", project / "rtil", ignore=shutil.ignore_patterns("csrc", "prebuilt", "__pycache__"))
    shutil.copytree(workshop.sources, project / "rtil" / "ops" / "csrc")
    shutil.copytree(ROOT / "configs", project / "configs")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    code = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(workshop.folder)]
    names = {}
    for ahead in ("1", "0"):
        shutil.rmtree(project / "build", ignore_errors=True)
        environment = {**os.environ, "RTIL_BUILD_OPS": ahead}
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        wheel = done.stdout.split()[-1]
        assert wheel.endswith("-none-any.whl") == (ahead == "0")
        names[ahead] = set(zipfile.ZipFile(workshop.folder / wheel).namelist())
    assert {"rtil/ops/csrc/a.h", "rtil/ops/csrc/cuda/k.cu"} <= names["0"]
    assert names["1"] - names["0"] >= {"rtil/ops/prebuilt/librtil_ops.so", "rtil/ops/prebuilt/manifest.json"}
    assert not any("prebuilt/" in name for name in names["0"])
