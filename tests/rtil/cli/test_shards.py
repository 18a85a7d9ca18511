"""Shards of one evaluation: several processes, one after the other, at once, killed; joined by ``rtil merge``."""

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rtil
from rtil.cli import merge
from rtil.cli.eval import main
from rtil.evaluation.rows import read_rows, row_to_line
from rtil.evaluation.runner import Runner
from rtil.evaluation.shards import Shard
from rtil.runs import own

STUDY = ["--steps", "2", "--images", "3", "--batch", "2", "--lpips", "none", "--method", "ilo,csgm", "--device", "cpu"]
SMALL = [*STUDY, "--linear", "false"]


@pytest.fixture
def few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 9, "test": 9})


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("seconds", "check")} for row in rows]


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open() as file:
        return [{name: text for name, text in line.items() if name != "seconds"} for line in csv.DictReader(file)]


def _pictures(folder: Path) -> dict[str, bytes]:
    found = [*folder.rglob("pictures/*/*.png"), *folder.glob("grid-*.png")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def _all_that_counts(folder: Path) -> tuple[object, ...]:
    return _rows(folder / "rows.jsonl"), _table(folder), _pictures(folder)


@pytest.mark.usefixtures("few_faces")
def test_any_number_of_shards_gives_what_one_process_gives(workplace: Path) -> None:
    argv = [*STUDY, "--baselines", "adjoint"]
    assert main([*argv, "--out", "straight"]) == 0
    expected = _all_that_counts(workplace / "straight")
    for count in (1, 2, 3):
        out = f"by-{count}"
        for number in random.Random(count).sample(range(1, count + 1), count):  # noqa: S311
            assert main([*argv, "--out", out, "--shard", f"{number}/{count}"]) == 0
        files = sorted(path.name for path in (workplace / out).glob("rows*"))
        assert files == [f"rows-{number}-of-{count}.jsonl" for number in range(1, count + 1)]
        shares = [len(_rows(workplace / out / name)) for name in files]
        assert sum(shares) == len(expected[0])  # type: ignore[arg-type]
        assert min(shares) > 0
        assert merge.main([out]) == 0
        assert _all_that_counts(workplace / out) == expected
        assert sorted(path.name for path in (workplace / out).glob("rows*")) == ["rows.jsonl"]
    assert main(["--out", "by-3", "--resume", "--device", "cpu"]) == 0, "a joined run is like any other"
    assert _all_that_counts(workplace / "by-3") == expected


def test_shards_of_other_machines_are_joined_in_a_new_folder(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        assert main([*SMALL, "--out", f"machine-{number}", "--shard", f"{number}/3"]) == 0
    capsys.readouterr()
    assert merge.main(["machine-1", "machine-3", "--out", "all"]) == 2
    out, err = capsys.readouterr()
    assert "missing: 5 of 12 rows" in out
    assert "to go on with: --shard 2/3" in out
    assert "5 rows are missing" in err
    assert not Path("all").exists()
    assert merge.main(["machine-1", "machine-3", "--out", "preview", "--incomplete"]) == 0
    assert len(_rows(workplace / "preview/rows.jsonl")) == 7
    assert merge.main(["machine-1", "machine-2", "machine-3", "--out", "all"]) == 0
    assert main([*SMALL, "--out", "straight"]) == 0
    assert _all_that_counts(workplace / "all") == _all_that_counts(workplace / "straight")
    assert [path.name for path in Path("machine-2").glob("rows*")] == ["rows-2-of-3.jsonl"], "sources stay"
    capsys.readouterr()
    shutil.copytree("machine-2", "machine-2-copy")
    assert merge.main(["machine-2", "machine-2-copy", "--out", "twice", "--incomplete"]) == 0
    assert "double: 5 rows are there twice" in capsys.readouterr().out


def test_shards_of_another_evaluation_are_refused(
    workplace: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--out", "e", "--shard", "1/2"]) == 0
    settings = Path("e/settings.json").read_bytes()
    capsys.readouterr()
    other = shutil.move(make_run("00007-x", rtil=True, weights=9), workplace / "other")
    for more, words in [
        (["--images", "4"], "images 3, this command has 4"),
        (["--batch", "3"], "batch 2, this command has 3"),
        (["--ilo.lr", "0.3"], "with ilo"),
        (["--checkpoints", f"rtil={other}"], "other weights"),
        (["--checkpoints", f"other={other}"], "other weights or pictures than this command"),
        (["--resume", "--batch", "3"], "have batch 2, not 3"),
    ]:
        assert main([*SMALL, "--out", "e", "--shard", "2/2", *more]) == 2
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1
    assert Path("e/settings.json").read_bytes() == settings
    assert not Path("e/rows-2-of-2.jsonl").exists()
    assert main([*SMALL, "--out", "f", "--seed", "1", "--shard", "2/2"]) == 0
    assert merge.main(["e", "f", "--out", "both"]) == 2
    assert "seed 0, f has 1" in capsys.readouterr().err


def test_who_may_be_in_a_folder_at_the_same_time(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtil.evaluation.folder.ENTER_SECONDS", 0)
    assert main([*SMALL, "--out", "e", "--shard", "1/2"]) == 0
    in_use = "e is in use by process"
    at_work = own(Path("e"), "-1-of-2")
    for argv, code in [(["--shard", "2/2"], 0), (["--shard", "1/2"], 2), (["--resume"], 2)]:
        capsys.readouterr()
        assert main([*SMALL, "--out", "e", *argv]) == code
        assert (in_use in capsys.readouterr().err) == bool(code)
    assert merge.main(["e"]) == 2
    assert in_use in capsys.readouterr().err
    at_work.release()
    alone = own(Path("e"))
    assert main([*SMALL, "--out", "e", "--shard", "1/2"]) == 2
    assert in_use in capsys.readouterr().err
    alone.release()
    assert merge.main(["e"]) == 0


def test_a_process_alone_goes_on_with_what_shards_began(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*SMALL, "--out", "e", "--shard", "2/3"]) == 0
    began = _rows(Path("e/rows-2-of-3.jsonl"))
    done: list[object] = []
    save = Runner._save
    monkeypatch.setattr(Runner, "_save", lambda *args: (done.extend(args[2]), save(*args)))
    assert main(["--out", "e", "--resume", "--device", "cpu"]) == 0
    assert len(done) == 12 - len(began) > 0
    assert main([*SMALL, "--out", "e", "--shard", "2/2"]) == 0, "another division finds all of it finished"
    assert len(done) == 12 - len(began)
    assert merge.main(["e"]) == 0
    assert main([*SMALL, "--out", "straight"]) == 0
    assert _rows(Path("e/rows.jsonl")) == _rows(Path("straight/rows.jsonl"))


def test_foreign_rows_are_set_aside(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        assert main([*SMALL, "--method", "csgm", "--out", "e", "--shard", f"{number}/2"]) == 0
    for number in (1, 2):
        path = Path(f"e/rows-{number}-of-2.jsonl")
        (row, *_) = read_rows(path).rows
        foreign = [replace(row, settings=f"other-{number}"), replace(row, picture="of another")]
        path.write_text(path.read_text() + "".join(map(row_to_line, foreign)))
    capsys.readouterr()
    assert merge.main(["e"]) == 0
    assert "foreign: 4 rows" in capsys.readouterr().out
    assert len(_rows(Path("e/rows.jsonl"))) == 6
    assert [row.settings for row in read_rows(Path("e/rows.foreign")).rows][::2] == ["other-1", "other-2"]


def test_shards_of_a_gpu_are_joined_without_one(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bfloat16 stands in for the GPU: what computes in the type of the machine has other hashes."""
    for number in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr("rtil.devices.cpu_multiplies_bfloat16", lambda: True)
            assert main([*SMALL, "--out", "e", "--shard", f"{number}/2"]) == 0
    monkeypatch.setattr("rtil.devices.cpu_multiplies_bfloat16", lambda: False)
    assert merge.main(["e"]) == 0
    assert {of["precision"] for of in json.loads(Path("e/settings.json").read_text())["solvers"].values()} == {
        "bfloat16"
    }
    assert len(_rows(Path("e/rows.jsonl"))) == 12


def _process(argv: Sequence[str], environment: dict[str, str], folder: str) -> None:
    os.environ.update(environment)
    os.chdir(folder)
    raise SystemExit(main(argv))


@pytest.mark.slow
def test_three_shards_killed_at_random_and_run_again_equal_one_process(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [*SMALL, "--task", "cs,sr", "--batch", "1"]
    assert main([*argv, "--out", "straight"]) == 0
    monkeypatch.setenv("PYTHONPATH", str(Path(rtil.__file__).parents[1]))
    context = multiprocessing.get_context("forkserver")  # imports once for all of them
    context.set_forkserver_preload(["rtil.cli.comparison"])
    environment = {name: os.environ[name] for name in ("RTIL_CACHE", "RTIL_OPS")} | {"OMP_NUM_THREADS": "1"}

    def start(number: int) -> Any:
        shard = [*argv, "--out", "e", "--shard", f"{number}/3"]
        process = context.Process(target=_process, args=(shard, environment, str(workplace)))
        process.start()
        return process

    def rows(number: int) -> int:
        path = workplace / "e" / Shard(number, 3).file
        return path.read_bytes().count(b"\n") if path.exists() else 0

    draws = random.Random(0)  # noqa: S311
    processes = {number: start(number) for number in (1, 2, 3)}
    kept = 0
    for number in draws.sample((1, 2, 3), 2):
        enough, deadline = draws.randrange(1, 5), time.monotonic() + 120  # of 8 rows
        while rows(number) < enough and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(draws.random() / 100)
        os.kill(processes[number].pid, signal.SIGKILL)
        processes[number].join()
        assert processes[number].exitcode == -signal.SIGKILL
        before, kept = rows(number), kept + rows(number)
        assert enough <= before < 8
        processes[number] = start(number)
    for number, process in processes.items():
        process.join(120)
        assert process.exitcode == 0
        assert rows(number) == 8, "nothing is computed twice"
    assert kept >= 2
    for name in (".settings.json.tmp-99.json", "pictures/truth/.00.png.tmp-99.png"):
        (workplace / "e" / name).parent.mkdir(exist_ok=True)
        (workplace / "e" / name).touch()  # what a kill may have left
    assert merge.main(["e"]) == 0
    assert _all_that_counts(workplace / "e") == _all_that_counts(workplace / "straight")
    assert not list((workplace / "e").rglob(".*tmp*"))


def test_devices_are_shards_of_this_machine(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes are stood in for by calls, but for one, which is really started."""
    started: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str], **options: object) -> None:
            assert command[:4] == [sys.executable, "-m", "rtil", "eval"]
            assert env["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")
            started.append(command[4:])
            self.code = main(command[4:])

        def wait(self, seconds: float | None = None) -> int:
            return self.code

        def poll(self) -> int:
            return self.code

    argv = [*SMALL, "--devices", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Process)
        assert main([*argv, "--out", "e"]) == 0
        assert main([*argv, "--out", "f", "--shard", "2/2"]) == 0
        assert main([*argv, "--out", "f", "--shard", "1/2"]) == 0
    assert [words[words.index("--shard") + 1] for words in started] == ["1/2", "2/2", "3/4", "4/4", "1/4", "2/4"]
    assert merge.main(["f"]) == 0
    assert main([*SMALL, "--out", "straight"]) == 0
    for out in ("e", "f"):
        assert _all_that_counts(workplace / out) == _all_that_counts(workplace / "straight")


def test_a_device_that_fails_is_told(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtil.cli.local_shards.environment", lambda count: {**os.environ, "PYTHONPATH": "/nowhere"})
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main([*SMALL, "--devices", "2", "--out", "e"]) == 2
    err = capfd.readouterr().err
    assert "shards 1/2 (exit code 1), 2/2 (exit code 1) did not finish" in err
    assert "--out e --resume" in err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--shard", "0/3", "--out", "e"], "shard is '0/3': valid is i/n"),
        (["--shard", "1/3"], "--shard needs --out"),
        (["--devices", "0"], "devices is 0: valid is auto, or 1 to 64"),
        (["--devices", "2", "--device", "cuda:1"], "device is cuda:1, which one process uses"),
        (["--shard", "1/2", "--out", "runs/train/00000-stylegan2-vanilla-synthetic-16"], "settings.json"),
    ],
)
def test_mistakes_are_one_line(
    argv: list[str], words: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *argv]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_mistakes_of_merging_are_one_line(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for argv, words in [
        ([], "FOLDERS is needed"),
        (["no"], "no holds no settings.json"),
        (["empty"], "empty holds no settings.json"),
        (["a", "a", "--out", "b"], "give each folder once"),
        (["a", "b"], "several folders need --out"),
        (["runs/train/00000-stylegan2-vanilla-synthetic-16"], "holds no settings.json"),
    ]:
        assert merge.main(argv) == 2
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1
