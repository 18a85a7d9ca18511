"""Helpers of all tests."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder with reference values and faces; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference values in {SHARED.name}/ beside the repository")
    return SHARED


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


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """A shell starts background jobs with SIGINT ignored, which children inherit; tests of Ctrl-C need it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
