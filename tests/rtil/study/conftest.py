"""A tiny study in a folder with two runs of random weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtil.cli.study import main

PAIR = {
    "vanilla": "runs/train/00000-stylegan2-vanilla-synthetic-16",
    "rtil": "runs/train/00001-stylegan2-rtil-synthetic-16",
}
SMALL = {"images": 3, "steps": [2], "rounds": 2, "lpips": "none", "linear": False, "batch": 2}


@pytest.fixture
def few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 9, "test": 9})


@pytest.fixture
def write_study(workplace: Path, few_faces: None) -> Callable[..., Path]:
    """Return a function that writes ``mine.yaml``, a study of compressed sensing, with changes."""

    def write(**changes: Any) -> Path:
        study = {"title": "Mine", "checkpoints": PAIR, "evaluations": {"cs": {"task": ["cs"], "rates": [0.5], **SMALL}}}
        path = workplace / "mine.yaml"
        path.write_text(json.dumps(study | changes))  # which is YAML, too
        return path

    return write


@pytest.fixture
def run_study(write_study: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that runs that study and returns its folder."""

    def run(*words: str, out: str = "s", **changes: Any) -> Path:
        path = write_study(**changes)
        assert main([str(path), "--out", out, "--device", "cpu", *words]) == 0
        return Path(out)

    return run
