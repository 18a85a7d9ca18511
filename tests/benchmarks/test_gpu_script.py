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
    assert "- ours: cost of 2 images, that of 1 = 1: " in summary
    assert summary.count("TFLOP/s of a convolution alone") == 2
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
    assert "--batches 1,16,64" in commands[-1]
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


def test_summary_tells_of_inversion_what_a_step_does_and_a_batch_costs(tmp_path):
    run_of = {"way": "ours", "batch": 64, "steps_per_s": {"median": 12.3456}}
    run_of |= {"host_waits_by_cut": [{"loop.py:1": 2, "ilo.py:2": 1}, {}]}
    run_of |= {"gflop_per_step_by_cut": [{"bfloat16": 1.5, "float32": 0.25}, {"bfloat16": 1.0}]}
    peers = {"way": "peer-style", "batch": 64, "steps_per_s": {"median": 1.0}, "host_waits_by_cut": [{}, {}]}
    ratios = {"ours: cost of 64 images, that of 1 = 1": {"median": 3.0, "low": 2.5, "high": 4.0}}
    figures = {
        "resolution": 64,
        "runs": [run_of, peers],
        "ratios": ratios,
        "convolution_tflop_per_s": {"bfloat16": 400},
    }
    (tmp_path / "inversion.jsonl").write_text(json.dumps({"figures": figures}))
    text = "\n".join(gpu_summary.summary(tmp_path))
    assert "| 64 px | ours | 64 | 12.3 | 3 / 0 | 1.75 / 1 |" in text
    assert "| 64 px | peer-style | 64 | 1 | 0 / 0 |  |" in text
    assert "- ours: cost of 64 images, that of 1 = 1: 3 (2.5-4)" in text
    assert "400 in bfloat16" in text
