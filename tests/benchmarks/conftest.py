"""Results of benchmarks go to a folder of the test."""

from pathlib import Path

import pytest

from benchmarks import record


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rows are recorded, with a cache of its own."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "results"
