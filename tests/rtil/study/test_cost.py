"""What a study costs, counted by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rtil.cli.study import main
from rtil.study import cost
from rtil.study.cost import Cost, cost_of
from rtil.study.reading import read_study
from tests.rtil.study.conftest import SMALL


@pytest.fixture(autouse=True)
def _a_step_takes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "seconds_per_step", lambda method, codes, device: 1.0)


def test_inversions_and_steps_are_those_of_all_runs(write_study: Callable[..., Path]) -> None:
    evaluations = {
        "a": {"task": ["cs", "sr:4"], "rates": [0.1, 0.5], "method": ["ilo", "csgm"], **SMALL},
        "b": {"task": ["inversion"], "variants": {"x": {"steps": [5, 6]}}, "images": 2, "restarts": 3},
    }
    tune = {"evaluations": ["a"], "trials": 5, "images": 4, "settings": {"ilo": {"lr": {"low": 0.1, "high": 0.2}}}}
    a, b = 2 * 2 * 3 * 3, 2 * 2  # checkpoints, methods, cells, pictures
    study = read_study(str(write_study(evaluations=evaluations)))
    assert cost_of(study) == Cost(a + b, 4 * a + 33 * b, 4 * a + 33 * b)
    seeds = read_study(str(write_study(evaluations=evaluations, seeds=[0, 1, 2], tune=tune)))
    trials, tested = 2 * 5 * 3 * 4, 3 * 2 * 3 * 3
    assert cost_of(seeds).inversions == 3 * (a + b) + trials + tested


def test_presets_are_listed_with_their_cost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtil.presets.names", lambda kind: ["ilo_table1", "rtil_figure4"])
    assert main(["--list", "--size", "paper"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("rtil_figure4 --size paper: ") for line in lines)
    seconds = 100 * 14 * 2 * 2 * 7000 * 64  # pictures, cells, variants, checkpoints, steps; of 64 times the pixels
    assert f"    5600 inversions, 39.2 million steps, about {seconds / 86400:.0f} d" in lines
    assert "    needs --checkpoints vanilla=PATH rtil=PATH" in lines
    assert lines[-1].startswith("seconds: timed here on the shipped prior")


def test_a_step_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1e-6 < cost.seconds_per_step("csgm", 1, "cpu") < 10
