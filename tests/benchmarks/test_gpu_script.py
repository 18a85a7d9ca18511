"""The script for GPU machines, run at toy sizes here, so that its first minute there is not spent on its bugs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_summary
from benchmarks.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/gpu.sh"


def run(out, *words, **variables):
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(out), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True)


@pytest.mark.timeout(900)
def test_every_part_runs_at_toy_size(tmp_path):
    done = run(tmp_path / "out", "--tiny", RTIL_CACHE=str(tmp_path / "cache"))
    parts = [json.loads(line) for line in (tmp_path / "out/parts.jsonl").read_text().splitlines()]
    assert {part["part"]: part["code"] for part in parts} == dict.fromkeys(
        ("install", "doctor", "tests", "ops", "training 8 px", "inversion"), 0
    ), done.stdout
    assert done.returncode == 0, done.stderr
    summary = (tmp_path / "out/summary.md").read_text()
    for expected in ("self-tests cpu native", "## Operations", "tail with FIR backward", "## Training", "## Inversion"):
        assert expected in summary
    assert str(ROOT) not in summary
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "summary.md", "parts.jsonl", "doctor.json", "ops.jsonl", "training.jsonl", "inversion.jsonl", "log.txt"
    }  # fmt: skip


def test_a_part_that_fails_stops_no_other(tmp_path):
    """With a Python that can nothing but write the summary."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$2" = benchmarks.gpu_summary ] && exec {sys.executable} "$@"\nexit 3\n')
    python.chmod(0o755)
    done = run(tmp_path / "out", "--tiny", PYTHON=str(python))
    assert done.returncode == 1
    parts = [json.loads(line) for line in (tmp_path / "out/parts.jsonl").read_text().splitlines()]
    assert len(parts) == 6
    assert all(part["code"] for part in parts)
    summary = (tmp_path / "out/summary.md").read_text()
    assert summary.count("FAILED") == 6
    assert "rtil.doctor gave no report" in summary


def test_it_ends_within_its_budget(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$2" = benchmarks.gpu_summary ] && exec {sys.executable} "$@"\nexec sleep 60\n')
    python.chmod(0o755)
    done = run(tmp_path / "out", "--tiny", PYTHON=str(python), BUDGET_S="6")
    assert done.returncode == 1
    codes = [json.loads(line)["code"] for line in (tmp_path / "out/parts.jsonl").read_text().splitlines()]
    assert codes[0] in (124, 137)
    assert codes[1:] == [None] * 5
    assert "out of time" in (tmp_path / "out/summary.md").read_text()


def test_usage(tmp_path):
    done = run(tmp_path / "out", "--tinny")
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_all_commands_of_the_gpu_mode_are_valid(tmp_path):
    """Where they are only printed: every benchmark takes its options, whatever the machine."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$2" = benchmarks.gpu_summary ] && exec {sys.executable} "$@"\n'
        '[ "$2" = benchmarks ] && printf "%s\\n" "$*" >>"$CALLS"\nexit 0\n'
    )
    python.chmod(0o755)
    calls = tmp_path / "calls"
    run(tmp_path / "out", PYTHON=str(python), CALLS=str(calls))
    commands = calls.read_text().splitlines()
    assert [command.split()[2] for command in commands] == ["ops", "training", "training", "training", "inversion"]
    for command in commands:
        words = ["cpu" if word == "cuda" else word for word in command.split()]
        assert main([*words[2:], "--print_config"]) == 0


@pytest.mark.parametrize(
    ("library", "tiers"),
    [
        ({"state": "loaded", "cuda": True}, "native,ext"),
        ({"state": "loaded", "cuda": False}, "native"),
        ({"state": "failed", "cuda": False}, "native"),
    ],
)
def test_tiers_that_can_be_measured(tmp_path, capsys, library, tiers):
    (tmp_path / "doctor.json").write_text(json.dumps({"library": library}))
    assert gpu_summary.main([str(tmp_path), "--tiers"]) == 0
    assert capsys.readouterr().out.strip() == tiers


def test_summary_marks_what_misses_the_aim(tmp_path):
    spread = {"median": 0.5, "low": 0.5, "high": 0.5}
    run_of = {"op": "bias_act", "direction": "forward", "size": "1x2x4", "dtype": "float32", "layout": "nhwc"}
    runs = [
        run_of | {"way": "ext", "ms": spread, "share_of_copy": spread},
        run_of | {"way": "ext", "op": "tail", "ms": spread, "share_of_copy": {**spread, "median": 0.9}},
    ]
    (tmp_path / "ops.jsonl").write_text(json.dumps({"figures": {"runs": runs}}))
    text = "\n".join(gpu_summary.summary(tmp_path))
    assert "50% *" in text
    assert "90% |" in text
