"""Helpers of all tests."""

from pathlib import Path

import pytest
import torch

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
