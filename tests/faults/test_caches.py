"""Caches, libraries and packages that are not what they should be: one line, exit code 2, nothing lost.

Numbers are those of the table in docs/faults/models.md.
"""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rtil.cli.doctor import main as doctor
from rtil.data.cache import preload
from rtil.data.sets import open_dataset
from rtil.errors import Notice
from rtil.inverse import latent_space
from rtil.ops import build
from rtil.packages import broken_package
from tests.faults import models
from tests.faults.conftest import SMALL


@pytest.mark.parametrize("damage", ["cut short", "a bit", "empty"])
def test_10_a_damaged_gaussian_fit_is_told_once_and_made_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path))
    monkeypatch.setattr(latent_space, "FIT_DRAWS", 100)
    G = models.generator()
    mean, _ = latent_space.cached_fit(G)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes({"cut short": whole[:-3], "a bit": whole[:-1] + bytes([whole[-1] ^ 1]), "empty": b""}[damage])
    with pytest.warns(Notice, match="is made again: it is damaged") as told:
        assert torch.equal(latent_space.cached_fit(G)[0], mean)
    assert len(told) == 1
    assert path.read_bytes() == whole


def test_10_damaged_pictures_in_the_cache_are_told_of(
    here: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("RTIL_CACHE", str(here / "cache"))
    ds = open_dataset("faces", 8, "train")
    expected = preload(ds).clone()
    (path,) = (here / "cache").iterdir()
    for content in (path.read_bytes()[:-5], b"PK\x05\x06" + bytes(18)):
        path.write_bytes(content)
        assert torch.equal(preload(ds), expected)
    assert [str(warning.message).partition(": ")[0] for warning in recwarn] == [
        f"the decoded images {path} are made again"
    ] * 2


@pytest.mark.parametrize("damage", ["cut short", "a bit", "no checksum"])
def test_11_a_damaged_library_is_not_loaded(damage: str, tmp_path: Path) -> None:
    cached = tmp_path / "librtil_ops.so"
    cached.write_bytes(b"\x7fELF" + bytes(100))
    (tmp_path / build.CHECKSUM).write_text(build.digest(cached))
    assert build.is_whole(cached)
    if damage == "cut short":
        cached.write_bytes(cached.read_bytes()[:50])
    elif damage == "a bit":
        models.flipped(cached, 60)
    else:
        (tmp_path / build.CHECKSUM).unlink()
    assert not build.is_whole(cached)


NMS = "operator torchvision::nms does not exist"
BREAK = """
import sys, types
from importlib.abc import MetaPathFinder, Loader
from importlib.machinery import ModuleSpec
name, how = {name!r}, {how!r}
class Break(MetaPathFinder, Loader):
    def find_spec(self, found, path=None, target=None):
        if found != name: return None
        if how == "missing": raise ModuleNotFoundError(f"No module named '{{found}}'", name=found)
        return ModuleSpec(found, self)
    def create_module(self, spec): return None
    def exec_module(self, module):
        exec(compile("raise RuntimeError('operator torchvision::nms does not exist')", "x", "exec"), module.__dict__)
sys.meta_path.insert(0, Break())
from {module} import main
sys.exit(main({words!r}))
"""


@pytest.mark.parametrize(
    ("name", "how", "module", "words", "line"),
    [
        (
            "torchvision",
            "broken",
            "rtil.cli.train",
            [*SMALL, "--kimg", "0.004"],
            "operator torchvision::nms does not exist",
        ),
        ("torchmetrics", "missing", "rtil.cli.train", [*SMALL, "--kimg", "0.004"], "No module named 'torchmetrics'"),
        ("torchvision", "broken", "rtil.cli.doctor", [], ""),
    ],
)
def test_53_packages_that_cannot_be_imported(
    name: str, how: str, module: str, words: list[str], line: str, here: Path
) -> None:
    models.snapshot(here / "a.safetensors")
    code = BREAK.format(name=name, how=how, module=module, words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here, timeout=200)
    if module == "rtil.cli.doctor":
        assert done.returncode == 1, done.stderr
        assert "torchvision: RuntimeError: operator torchvision::nms does not exist; pip install" in done.stdout
        return
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"the package {name} cannot be imported ({line}): pip install" in done.stderr


@pytest.mark.parametrize("name", ["lpips", "matplotlib"])
def test_53_packages_that_are_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as caught:
        importlib.import_module(name)
    said = str(broken_package(caught.value))
    assert said.startswith(f"the package {name} cannot be imported (")
    assert f"pip install {name}; rtil doctor tells of all" in said


def test_53_a_bug_of_ours_stays_one() -> None:
    with pytest.raises(ImportError) as caught:
        from rtil.errors import no_such_name  # noqa: F401
    assert broken_package(caught.value) is None
    assert broken_package(ValueError("bug")) is None


def test_doctor_tells_of_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(["--dry_run"]) == 0
