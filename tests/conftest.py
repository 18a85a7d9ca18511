"""Helpers of all tests."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from rtil.files import cache_folder
from rtil.weights.backbones import BACKBONES

SHARED = Path(os.environ.get("RTIL_SHARED") or Path(__file__).resolve().parents[1].parent / "shared")


@pytest.fixture
def shared() -> Path:
    """The folder with reference values and faces; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference values in {SHARED}: set RTIL_SHARED to their folder")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that goes with the tests' files; compiled operations and networks of LPIPS in it are the user's own."""
    usual, own = cache_folder(), tmp_path_factory.mktemp("cache")
    costly = [usual / backbone.file for backbone in BACKBONES.values()]
    for name in ("ops", "without-spills"):
        (usual / name).mkdir(parents=True, exist_ok=True)
        costly.append(usual / name)
    for path in costly:
        if path.exists():
            (own / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTIL_CACHE", str(own))
        yield own


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small tensors: a second thread costs more than it gives, and sums stay in one order."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands with an empty cache would build the fused operations; tests of those say so."""
    if "RTIL_OPS" not in os.environ:
        monkeypatch.setenv("RTIL_OPS", "native")


@pytest.fixture
def make_pictures() -> Callable[[Path, int, int], Path]:
    """Return a function that fills a folder with random pictures: (folder, count, side in pixels)."""

    def make(folder: Path, count: int, side: int) -> Path:
        folder.mkdir(parents=True)
        rng = torch.Generator().manual_seed(0)
        for i in range(count):
            pixels = torch.randint(0, 256, (side, side, 3), generator=rng, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / f"{i}.png")
        return folder

    return make


@pytest.fixture(autouse=True)
def _networks_are_opened_anew() -> Iterator[None]:
    """A test may put another network in the place of a perceptual one, which is opened once for each process."""
    yield
    if "rtil.inverse.perceptual" in sys.modules:
        sys.modules["rtil.inverse.perceptual"].open_perceptual.cache_clear()


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """A shell starts background jobs with SIGINT ignored, which children inherit; tests of Ctrl-C need it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
