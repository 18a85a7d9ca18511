"""Results of benchmarks go to a folder of the test."""

from pathlib import Path

import pytest

from benchmarks import convolution_rate, record


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rows are recorded."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture(autouse=True)
def _small_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that nobody reads is measured in no time."""
    monkeypatch.setattr(convolution_rate, "MAPS", {"cpu": (1, 4, 8)})
