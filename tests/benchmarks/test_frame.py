import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from benchmarks import machine
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.record import Spread, append_row, without_folders
from benchmarks.timing import StepClock, in_turns, ratio

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"python -m benchmarks {name}" in text
    assert "--record" in text


def test_unknown_benchmark_is_a_mistake(capsys):
    assert main(["inversoin"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_unknown_option_is_a_mistake(capsys):
    assert main(["inversion", "--batchs", "1"]) == 2
    assert "--batches" in capsys.readouterr().err


def test_as_a_command_with_its_malloc_settings():
    """torch comes late: the process starts itself anew before that."""
    code = "import os, sys, benchmarks.__main__ as b; assert 'torch' not in sys.modules; os.execve = lambda *a: 1/0"
    code += "; b.launch('benchmarks.__main__')"
    environment = {name: value for name, value in os.environ.items() if name != "RTIL_LAUNCHED"}
    asked = [sys.executable, "-m", "benchmarks", "--help"]
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert "inversion" in done.stdout
    started = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "ZeroDivisionError" in started.stderr


def test_rows_are_appended_by_several_at_once(results):
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda i: append_row(results, "x", ["python", "--data", "/home/somebody/a.zip"], {"i": i}), range(12)
            )
        )
    rows = [json.loads(line) for line in (results / "x.jsonl").read_text().splitlines()]
    assert sorted(row["figures"]["i"] for row in rows) == list(range(12))
    assert set(rows[0]) == {"date", "machine", "command", "figures"}
    assert rows[0]["command"] == "python --data a.zip"
    assert {path.name for path in results.iterdir()} == {"x.jsonl", ".lock"}


def test_a_row_that_is_no_json_changes_nothing(results):
    append_row(results, "x", ["a"], {})
    before = (results / "x.jsonl").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        append_row(results, "x", ["a"], {"seconds": float("nan")})
    assert (results / "x.jsonl").read_bytes() == before


def test_rows_go_where_they_are_wanted(results, tmp_path):
    words = ["inversion", "--resolution", "8", "--channels", "{4:2,8:2}", "--w_dim", "4", "--mapping_layers", "1"]
    words += ["--steps", "1", "--batches", "1", "--repeats", "1", "--device", "cpu"]
    assert main([*words, "--record", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere/inversion.jsonl").exists()
    assert not results.exists()


def test_machine_has_no_names_of_places():
    described = machine.describe()
    assert described["torch"] == torch.__version__
    assert described["cores"] >= 1
    text = json.dumps(described)
    assert os.uname().nodename not in text
    assert str(ROOT) not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--out /tmp/a/b", "--out b"),
        ("a=/x/y b=~/z", "a=y b=z"),
        ("--data faces/b.zip --x 1/2", "--data faces/b.zip --x 1/2"),
        ("'--out=/a b/c'", "'--out=a b/c'"),
    ],
)
def test_paths_lose_their_folders(text, expected):
    assert without_folders(text) == expected


def test_spread_and_ratio():
    assert Spread.of([4.0, 1.0, 2.0, 3.0]) == Spread(2.5, 1.0, 4.0, 4)
    assert Spread.of([0.123456]).as_json() == {"median": 0.1235, "low": 0.1235, "high": 0.1235}
    # drift: the machine is twice as slow in the second repeat, for both ways
    assert ratio([1.0, 2.0], [2.0, 4.0]) == Spread(0.5, 0.5, 0.5, 2)


def test_ways_take_turns_in_alternating_order():
    order = []
    found = in_turns({"a": lambda: order.append("a") or 1, "b": lambda: order.append("b") or 2}, repeats=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1, 1, 1], "b": [2, 2, 2]}


def test_step_clock_leaves_out_first_steps_and_what_is_between_rounds(monkeypatch):
    now = iter([10.0, 16.0, 100.0, 103.0])
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: next(now))
    clock = StepClock([5, 1], torch.device("cpu"))
    for number, steps in enumerate(clock.steps):
        for step in range(steps + 1):
            clock(number, step)
    assert clock.seconds == {0: 6 / 3, 1: 3.0}
