"""Keep the user's cache out of the tests."""

from pathlib import Path

import pytest


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path))
    return tmp_path
