import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rtil.errors import RunError, UserError
from rtil.runs import check_resume, claim, new_run, newest_pair, read_settings, train_runs, write_settings

MakeRun = Callable[..., Path]


def test_runs_made_at_once_get_different_numbers(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda n: new_run(tmp_path / "runs", f"run-{n}"), range(24)))
    assert sorted(int(run.name[:5]) for run in runs) == list(range(24))


def test_a_new_run_follows_the_highest_number(tmp_path: Path) -> None:
    (tmp_path / "00041-old").mkdir()
    (tmp_path / "notes").mkdir()
    assert new_run(tmp_path, "a").name == "00042-a"


def test_a_folder_with_a_run_needs_resume(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as run:
        write_settings(run, {"kimg": 3})
    with pytest.raises(UserError, match="already holds a run: add --resume"), claim(run):
        pass
    with claim(run, resume=True):
        assert read_settings(run) == {"kimg": 3}


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run to resume"):
        check_resume(tmp_path, resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"), claim(tmp_path / "file"):
        pass


def test_a_run_belongs_to_one_process(tmp_path: Path) -> None:
    code = f"from rtil.runs import claim\nfrom pathlib import Path\nwith claim(Path({str(tmp_path)!r})): pass"
    with claim(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"is in use by process {os.getpid()}" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no settings\.json"):
        read_settings(tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_settings(tmp_path)

    (tmp_path / "settings.json").write_text("[1]")
    with pytest.raises(UserError, match="cannot be read"):
        read_settings(tmp_path)


@pytest.mark.parametrize("out", ["file/run", "x" * 300])
def test_a_folder_that_cannot_be_made_is_named(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=rf"{out} cannot be written \("), claim(tmp_path / out):
        pass
    with pytest.raises(RunError, match=r"cannot be written \("):
        new_run(tmp_path / out, "a")


def _age(run: Path, seconds: int) -> None:
    for snapshot in run.glob("*.safetensors"):
        os.utime(snapshot, (seconds, seconds))


def test_the_newest_pair_agrees_in_data_resolution_and_kimg(tmp_path: Path, make_run: MakeRun) -> None:
    runs = {
        "old-vanilla": make_run("00000-a", rtil=False),
        "old-rtil": make_run("00001-b", rtil=True),
        "vanilla": make_run("00002-c", rtil=False),
        "other-data": make_run("00003-d", rtil=True, data="faces.zip"),
        "other-side": make_run("00004-e", rtil=True, resolution=32),
        "unfinished": make_run("00005-f", rtil=True, kimg=0.5),
    }
    for age, run in enumerate(runs.values()):
        _age(run, 1000 + age)
    pair = newest_pair(tmp_path / "runs/train")
    assert {name: info.path for name, info in pair.items()} == {"vanilla": runs["vanilla"], "rtil": runs["old-rtil"]}
    assert list(pair) == ["vanilla", "rtil"]


def test_without_a_pair_the_newest_run_stands_alone(tmp_path: Path, make_run: MakeRun) -> None:
    _age(make_run("00000-a", rtil=False, kimg=1.0), 1000)
    _age(make_run("00001-b", rtil=True, kimg=2.0), 2000)
    assert list(newest_pair(tmp_path / "runs/train")) == ["rtil"]


def test_no_run_is_a_mistake_that_says_what_to_do(tmp_path: Path) -> None:
    assert train_runs(tmp_path / "absent") == []
    with pytest.raises(UserError, match="train first"):
        newest_pair(tmp_path)
