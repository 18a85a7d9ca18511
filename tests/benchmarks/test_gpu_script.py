"""The script for GPU machines, run at toy sizes here, so that its first minute there is not spent on its bugs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_summary
from benchmarks.__main__ import main
from rtil.ops import build

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/gpu.sh"
TEXT = SCRIPT.read_text(encoding="utf-8")
BUILT = {
    "library": {"state": "loaded", "cuda": True, "seconds": None, "problem": None},
    "gpus": [{"name": "GPU", "arch": "sm_90", "memory_gib": 1}],
    "selftest": [],
}


def run(out, *words, **variables):
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(out), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True)


def stub(folder, script):
    """Make a Python that does what a script says, but writes summaries."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\n[ "$2" = benchmarks.gpu_summary ] && exec {sys.executable} "$@"\n{script}\n')
    python.chmod(0o755)
    return str(python)


@pytest.fixture
def compiled():
    """Whether the operations can be compiled here; they are, in the cache that other tests use."""
    try:
        build.library(cuda=False)
    except build.BuildError:
        return False
    return True


@pytest.mark.slow
def test_every_part_runs_at_toy_size(tmp_path, compiled):
    done = run(tmp_path / "out", "--tiny")
    parts = [json.loads(line) for line in (tmp_path / "out/parts.jsonl").read_text().splitlines()]
    expected = dict.fromkeys(("install", "doctor", "tests", "ops", "training 8 px", "inversion"), 0)
    assert {part["part"]: part["code"] for part in parts} == expected | {"doctor": 0 if compiled else 1}, done.stdout
    assert done.returncode == (0 if compiled else 1), done.stderr
    summary = (tmp_path / "out/summary.md").read_text()
    assert re.search(r"^test_devices.py:cpu-native: \d+ passed, \d+ deselected in ", summary, re.MULTILINE)
    for heading in ("self-tests cpu native", "## Operations", "tail with FIR backward", "## Training", "## Inversion"):
        assert heading in summary
    tier = "ext" if compiled else "native"
    assert f"self-tests cpu {tier}" in summary
    for layout in ("nhwc", "nchw"):
        assert f"| tail with FIR backward | 1x4x4 bfloat16 {layout} | {tier} |" in summary
    assert f"| 8 px, batch 4 | vanilla | {tier} |" in summary
    assert "- ours: cost of 2 images, that of 1 = 1: " in summary
    assert summary.count("TFLOP/s of a convolution alone") == 2
    assert str(ROOT) not in summary
    assert re.search(r"^test_cuda_gpu.py: \d+ skipped in ", summary, re.MULTILINE)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files - {".lock"} == {
        "summary.md", "parts.jsonl", "doctor.json", "ops.jsonl", "training.jsonl", "inversion.jsonl", "log.txt"
    }  # fmt: skip


def test_a_part_that_fails_stops_no_other(tmp_path):
    """With a Python that can nothing but write the summary."""
    done = run(tmp_path / "out", "--tiny", PYTHON=stub(tmp_path, "exit 3"))
    assert done.returncode == 1
    parts = [json.loads(line) for line in (tmp_path / "out/parts.jsonl").read_text().splitlines()]
    assert len(parts) == 6
    assert all(part["code"] for part in parts)
    summary = (tmp_path / "out/summary.md").read_text()
    assert summary.count("FAILED") == 6
    assert "rtil doctor gave no report" in summary


def test_it_ends_within_its_budget(tmp_path):
    done = run(tmp_path / "out", "--tiny", PYTHON=stub(tmp_path, "exec sleep 60"), BUDGET_S="6")
    assert done.returncode == 1
    codes = [json.loads(line)["code"] for line in (tmp_path / "out/parts.jsonl").read_text().splitlines()]
    assert codes[0] in (124, 137)
    assert codes[1:] == [None] * 5
    assert "out of time" in (tmp_path / "out/summary.md").read_text()


def test_usage(tmp_path):
    done = run(tmp_path / "out", "--tinny")
    assert done.returncode == 2
    assert "usage" in done.stderr


@pytest.mark.parametrize("tier", ["ext", "native"])
def test_gpu_mode(tmp_path, tier):
    """Where its commands are only printed: they are valid whatever the machine, and their limits fit."""
    doctor = tmp_path / "doctor.json"
    doctor.write_text(json.dumps(BUILT) if tier == "ext" else "")
    calls = tmp_path / "calls"
    python = stub(tmp_path, f'[ "$3" = doctor ] && exec cat {doctor}\necho "$RTIL_OPS $*" >>{calls}')
    done = run(tmp_path / "out", PYTHON=python, RTIL_OPS="")
    assert done.returncode == 0
    limits = {name.strip('"'): int(limit) for name, limit in re.findall(r'^ *part ("[^"]+"|\w+) (\d+) ', TEXT, re.M)}
    began = re.findall(r"== (.+) \(at most (\d+) s\)", done.stdout)
    assert len(began) == 10
    assert sum(limits[name] for name, _ in began) <= 530  # the script's own budget, within nine minutes
    spare = 0
    for name, limit in began:  # nothing took any time here, but for the interpreter's start
        assert limits[name] <= int(limit) <= limits[name] + spare
        spare = int(limit)
    commands = [line.split()[1:] for line in calls.read_text().splitlines() if f"{tier} -m benchmarks " in line]
    assert [words[2] for words in commands] == ["ops", *["training"] * 3, *["inversion"] * 2, "training"]
    sides = [words[words.index("--resolution") + 1] for words in commands if words[2] == "training"]
    assert sides == ["256", "64", "128", "256"]
    assert commands[0][commands[0].index("--tiers") + 1] == ("native,ext" if tier == "ext" else "native")
    for words in commands:
        assert main([*("cpu" if word == "cuda" else word for word in words[2:]), "--print_config"]) == 0
    tests = {line.split("/")[-1] for line in calls.read_text().splitlines() if " -m pytest " in line}
    of_ext = {"test_cuda_gpu.py -k ", "test_devices.py -k cuda-ext"} if tier == "ext" else set()
    assert tests == of_ext | {"test_devices.py -k cuda-native"}


def test_packages_from_a_folder(tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    python = stub(tmp_path, f'echo "$PYTHONPATH: $*" >>{tmp_path}/calls\n[ "$1" = -c ] && echo lpips')
    done = run(tmp_path / "out", "--tiny", PYTHON=python, PACKAGES=str(packages), PYTHONPATH="before")
    assert "missing: lpips" in done.stdout
    calls = (tmp_path / "calls").read_text()
    assert calls.startswith(f"{packages}:before: -c")
    assert "pip install" not in calls
    run(tmp_path / "out", "--tiny", PYTHON=python)
    assert "pip install" in (tmp_path / "calls").read_text()
    assert run(tmp_path / "out", "--tiny", PYTHON=python, PACKAGES=str(tmp_path / "absent")).returncode == 2


@pytest.mark.parametrize(
    ("library", "gpus", "tiers"),
    [
        ({"state": "loaded", "cuda": True}, 1, "native,ext"),
        ({"state": "loaded", "cuda": False}, 1, "native"),
        ({"state": "loaded", "cuda": False}, 0, "native,ext"),
        ({"state": "failed", "cuda": False}, 0, "native"),
    ],
)
def test_tiers_that_can_be_measured(tmp_path, capsys, library, gpus, tiers):
    (tmp_path / "doctor.json").write_text(json.dumps({"library": library, "gpus": [{}] * gpus}))
    assert gpu_summary.main([str(tmp_path), "--tiers"]) == 0
    assert capsys.readouterr().out.strip() == tiers


@pytest.mark.parametrize(
    ("gpu", "library", "tiers"), [(True, Path("x"), "native,ext"), (True, None, "native"), (False, Path("x"), "native")]
)
def test_tiers_where_the_doctor_came_to_no_end(tmp_path, capsys, monkeypatch, gpu, library, tiers):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr(build, "found", lambda cuda: library)
    (tmp_path / "doctor.json").write_text("")
    assert gpu_summary.main([str(tmp_path), "--tiers"]) == 0
    assert capsys.readouterr().out.strip() == tiers


def test_summary_tells_how_tests_ended(tmp_path):
    (tmp_path / "log.txt").write_text(
        "test_a.py: tests/test_a.py::test_x[1] FAILED [ 50%]\n"
        "test_a.py: ==== FAILURES ====\n"
        "test_a.py: E   assert == 1 in 2.0s ==\n"
        "test_a.py: FAILED tests/test_a.py::test_x[1] - assert 1 == 2\n"
        "test_a.py: ===== 1 failed, 1 passed in 3.21s =====\n"
    )
    assert list(gpu_summary.tests_of(tmp_path / "log.txt")) == [
        "test_a.py: FAILED tests/test_a.py::test_x[1] - assert 1 == 2",
        "test_a.py: 1 failed, 1 passed in 3.21s",
    ]
    assert list(gpu_summary.tests_of(tmp_path / "absent.txt")) == []


def spread(value):
    return {"median": value, "low": value, "high": value}


def summary_of_ops(folder, runs, failures=None, left_out=()):
    figures = {"runs": runs, "failures": failures or {}, "left_out": list(left_out)}
    (folder / "ops.jsonl").write_text(json.dumps({"figures": figures}))
    return "\n".join(gpu_summary.summary(folder))


BIAS_ACT = {"op": "bias_act", "direction": "forward", "size": "1x2x4", "dtype": "float32", "layout": "nhwc"}
EXT = BIAS_ACT | {"way": "ext", "ms": spread(0.5)}


def test_summary_marks_what_misses_the_aim(tmp_path):
    runs = [EXT | {"share_of_copy": spread(0.5)}, EXT | {"op": "tail", "share_of_copy": spread(0.9)}]
    text = summary_of_ops(tmp_path, runs)
    assert "50% *" in text
    assert "90% |" in text
    assert "replayed" not in text


def test_summary_tells_how_operations_were_timed(tmp_path):
    runs = [
        EXT | {"eager_ms": 0.75},
        EXT | {"layout": "nchw", "ms": spread(2.0), "eager_ms": 2.5},
        EXT | {"op": "tail", "not_captured": "a copy waits"},
        BIAS_ACT | {"op": "upfirdn2d", "way": "composition", "ms": spread(1.0)},
    ]
    text = summary_of_ops(tmp_path, runs, {"tail, native": "no memory", "tail, ext": "no memory"}, ["R1", "tail"])
    assert "| bias_act forward | 1x2x4 float32 nhwc | ext | 0.5 | 0.75 |  |  |  |  |  | 4 |" in text
    assert "| bias_act forward | 1x2x4 float32 nchw | ext | 2 | 2.5 |  |  |  |  |  |  |" in text
    assert "| tail forward | 1x2x4 float32 nhwc | ext | 0.5 (eager) |  |" in text
    assert "| upfirdn2d forward | 1x2x4 float32 nhwc | none |  |  |" in text
    assert "replayed CUDA graphs" in text
    assert "FAILED tail, native; tail, ext: no memory" in text
    assert "no time for 2 cases, from 'R1' on" in text


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
    captured = figures | {"runs": [run_of | {"steps_per_s": {"median": 24.6912}}], "ratios": {}}
    rows = [{"figures": figures, "machine": {}}, {"figures": captured, "machine": {"cuda_graphs": True}}]
    (tmp_path / "inversion.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = "\n".join(gpu_summary.summary(tmp_path))
    assert "| 64 px | ours, CUDA graphs | 64 | 24.7 |" in text
    assert "- ours, batch 64: CUDA graphs 2 times as many steps a second" in text
    assert "| 64 px | ours | 64 | 12.3 | 3 / 0 | 1.75 / 1 |" in text
    assert "| 64 px | peer-style | 64 | 1 | 0 / 0 |  |" in text
    assert "- ours: cost of 64 images, that of 1 = 1: 3 (2.5-4)" in text
    assert "400 in bfloat16" in text
