"""Hashes of settings, frozen: rows of an evaluation are found again by them, so none may change unnoticed."""

from pathlib import Path

import pytest

from rtil.cli.eval import EvalOptions, open_study

FROZEN = {
    "cs ilo": "5ee0cdd42411",
    "cs csgm": "7064cb54e18b",
    "cs pulse": "30e9f0c404a9",
    "cs sparse": "6be9cfed03ba",
    "cs mganprior-20": "98b5474c5300",
    "cs tv": "9e0e1c16ac86",
    "cs linear": "1cadd6b0a26d",
    "sr ilo": "5ee0cdd42411",
    "sr csgm": "7064cb54e18b",
    "sr pulse": "30e9f0c404a9",
    "sr sparse": "6be9cfed03ba",
    "sr mganprior-20": "98b5474c5300",
    "sr tv": "9e0e1c16ac86",
    "sr bicubic": "30142976ef39",
    "sr linear": "1cadd6b0a26d",
}


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtil.devices.cpu_multiplies_bfloat16", lambda: False)


def test_hashes_of_every_method(workplace: Path) -> None:
    options = EvalOptions(
        method=["ilo", "csgm", "pulse", "sparse", "mganprior"],
        task=["cs", "sr"],
        images=2,
        baselines=["tv", "bicubic"],
        device="cpu",
        lpips="none",
    )
    items = [item for item in open_study(options).work() if item.checkpoint in ("rtil", "-")]
    found = {f"{item.place.task} {item.method}": item.settings for item in items}
    assert found == FROZEN
