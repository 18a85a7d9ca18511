"""Hashes of settings, frozen: rows of an evaluation are found again by them, so none may change unnoticed."""

from pathlib import Path

import pytest

from rtil.cli.comparison import open_evaluation
from rtil.cli.eval import EvalOptions

FROZEN = {
    "cs ilo": "0875507db4c8",
    "cs csgm": "92b253a246e2",
    "cs pulse": "4d78d2953416",
    "cs sparse": "b106d0291577",
    "cs mganprior-20": "3fffb6474e94",
    "cs tv": "9e0e1c16ac86",
    "cs linear": "1cadd6b0a26d",
    "sr ilo": "0875507db4c8",
    "sr csgm": "92b253a246e2",
    "sr pulse": "4d78d2953416",
    "sr sparse": "b106d0291577",
    "sr mganprior-20": "3fffb6474e94",
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
    jobs = [job for job in open_evaluation(options).jobs if job.checkpoint in ("rtil", "-")]
    found = {f"{job.condition.task} {job.method}": job.hash for job in jobs}
    assert found == FROZEN
