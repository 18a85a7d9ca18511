"""A solver of a separate package is one of eval.py's methods, with its own options, without an edit anywhere."""

import csv
import json
import re
from pathlib import Path

import pytest

from rtil.cli.eval import main

PACKAGE = Path(__file__).parents[2] / "fixtures/plugin_solver"
SMALL = ["--steps", "2", "--images", "2", "--lpips", "none", "--linear", "false", "--device", "cpu"]


@pytest.fixture
def place(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(PACKAGE))
    return workplace


def test_its_options_are_in_the_help(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "--walk.stride" in out
    assert "Standard deviation of a step." in out


def test_it_is_evaluated_beside_the_others_and_resumed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--method", "ilo,walk", "--walk.stride", "0.2", "--out", "e"]
    assert main([*SMALL, *asked, "--dry_run"]) == 0
    assert "# cs 10 %: walk rtil measurement (6 steps, stride 0.2)\n" in capsys.readouterr().out
    assert main([*SMALL, *asked]) == 0
    assert re.search(r"^walk +rtil ", capsys.readouterr().out, re.MULTILINE)
    rows = [json.loads(line) for line in (place / "e/rows.jsonl").read_text().splitlines()]
    solvers = json.loads((place / "e/settings.json").read_text())["solvers"]
    own = {row["settings"] for row in rows if row["method"] == "walk"}
    assert {(solvers[name]["stride"], solvers[name]["steps"]) for name in own} == {(0.2, 6)}
    with (place / "e/summary.csv").open() as file:
        assert {(line["method"], line["checkpoint"]) for line in csv.DictReader(file)} >= {("walk", "rtil")}
    assert main(["--out", "e", "--resume", "--device", "cpu"]) == 0
    assert len((place / "e/rows.jsonl").read_text().splitlines()) == len(rows)


def test_it_is_a_method_of_variants_and_mistakes_are_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--variants", "{far: {method: walk, stride: 0.9}, near: {method: walk}}", "--dry_run"]) == 0
    assert "far rtil measurement (6 steps, stride 0.9)" in capsys.readouterr().out
    for argv, words in (
        (["--method", "walk", "--walk.stride", "0"], ["stride is 0", "above 0"]),
        (["--method", "wlak"], ["unknown method 'wlak'", "did you mean 'walk'"]),
    ):
        assert main([*SMALL, *argv]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert all(word in err for word in words), err
