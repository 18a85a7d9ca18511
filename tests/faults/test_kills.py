"""SIGKILL at random moments: what is gone on with ends as what nobody killed; what is there is whole."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rtil.evaluation.rows import RowFile, row_to_json
from rtil.interop.rosinality_export import save_rosinality
from rtil.ops import build
from rtil.snapshot import load_snapshot
from rtil.training.checkpoint import checkpoints
from tests.faults.conftest import training
from tests.faults.killing import KILLS, killed_until_done, start, wait


def state_of(run: Path) -> dict[str, Tensor]:
    """Return everything that a training goes on from, and its last snapshot."""
    state = torch.load(checkpoints(run)[-1], weights_only=True)
    adam = {
        f"{network}/{place}/{name}": torch.as_tensor(value)
        for network, optimiser in enumerate(state["optimizer_states"])
        for place, values in optimiser["state"].items()
        for name, value in values.items()
    }
    return state["state_dict"] | adam | load_file(sorted(run.glob("snapshot-*"))[-1])


def assert_equal(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    assert [name for name in got if not torch.equal(got[name], wanted[name])] == []


def parts(folder: Path) -> list[Path]:
    """Return what a kill left of files."""
    return [path for path in folder.rglob(".*") if path.name not in (".lock", ".owner")]


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of an evaluation but for the seconds."""
    found = [row_to_json(row) for row in RowFile(folder / "rows.jsonl").rows()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_train(here: Path, arch: str) -> None:
    """Of PGGAN, 8 px fade in from the eleventh of twenty steps on; a checkpoint is written after each."""
    words = training(arch, 0.08)
    whole = wait(start("rtil.cli.train", [*words[:-1], "whole"], here))
    assert whole.code == 0, (here / "log").read_text()
    seen, run = [0], here / "run"

    def start_anew() -> Any:
        resume = ["--resume"] if (run / "settings.json").exists() else []
        return start("rtil.cli.train", [*words, *resume, "--kimg", "0.08"], here)

    def look() -> None:
        found = checkpoints(run)
        images = int(torch.load(found[-1], weights_only=True)["state_dict"]["images_seen"]) if found else 0
        assert images >= seen[-1], "a checkpoint is gone"
        seen.append(images)

    def finish() -> None:
        assert seen[-1] == 80
        assert_equal(state_of(run), state_of(here / "whole"))
        assert parts(run) == []
        assert {path.name for path in run.glob("*.png")} == {path.name for path in (here / "whole").glob("*.png")}
        shutil.rmtree(run)
        seen.append(0)

    killed_until_done(f"train {arch}", start_anew, look, finish, whole.cpu_seconds)


def test_eval(here: Path, prior: Path) -> None:
    words = ["--checkpoints", f"a={prior}", "--images", "6", "--batch", "1", "--steps", "2", "--lpips", "none"]
    words += ["--no_linear", "--device", "cpu", "--out"]
    whole = wait(start("rtil.cli.eval", [*words, "whole"], here))
    assert whole.code == 0, (here / "log").read_text()
    counts, run = [0], here / "run"

    def start_anew() -> Any:
        resume = ["--resume"] if (run / "settings.json").exists() else []
        return start("rtil.cli.eval", [*words, "run", *resume], here)

    def look() -> None:
        path = run / "rows.jsonl"
        counts.append(path.read_bytes().count(b"\n") if path.exists() else 0)
        assert counts[-1] >= counts[-2], "rows are gone"

    def finish() -> None:
        assert rows(run) == rows(here / "whole")
        assert parts(run) == []
        for path in (here / "whole").rglob("*.png"):
            assert (run / path.relative_to(here / "whole")).read_bytes() == path.read_bytes(), path
        shutil.rmtree(run)
        counts.append(0)

    killed_until_done("eval", start_anew, look, finish, whole.cpu_seconds)


STUDY = """
title: Kills
checkpoints: {{a: {prior}}}
evaluations:
  cs: {{task: [cs], rates: [0.5], steps: [2], images: 3, batch: 1, lpips: none, linear: false}}
  inpaint: {{task: [inpaint], rates: [0.5], steps: [2], images: 3, batch: 1, lpips: none, linear: false}}
seeds: [0, 1]
figures: {{levels: {{kind: levels_curve}}}}
"""


def test_study(here: Path, prior: Path) -> None:
    """The same command goes on; nothing that is whole is computed again."""
    (here / "study.yaml").write_text(STUDY.format(prior=prior))
    words = ["study.yaml", "--device", "cpu", "--out"]
    whole = wait(start("rtil.cli.study", [*words, "whole"], here))
    assert whole.code == 0, (here / "log").read_text()
    evaluations = [path.relative_to(here / "whole") for path in (here / "whole/evaluations").iterdir()]
    assert len(evaluations) == 4
    counts, run = [0], here / "run"

    def look() -> None:
        counts.append(sum(path.read_bytes().count(b"\n") for path in run.rglob("rows.jsonl")))
        assert counts[-1] >= counts[-2], "rows are gone"

    def finish() -> None:
        assert all(rows(run / folder) == rows(here / "whole" / folder) for folder in evaluations)
        assert parts(run) == []
        for path in [*(here / "whole").rglob("pictures/*/*.png"), here / "whole/figures/levels.csv"]:
            assert (run / path.relative_to(here / "whole")).read_bytes() == path.read_bytes(), path
        assert (run / "report.html").stat().st_size > 10_000
        shutil.rmtree(run)
        counts.append(0)

    killed_until_done("study", lambda: start("rtil.cli.study", [*words, "run"], here), look, finish, whole.cpu_seconds)


def test_report(here: Path, prior: Path) -> None:
    words = ["--checkpoints", f"a={prior}", "--images", "2", "--steps", "2", "--lpips", "none", "--no_linear"]
    evaluation = wait(start("rtil.cli.eval", [*words, "--device", "cpu", "--out", "e"], here))
    assert evaluation.code == 0, (here / "log").read_text()
    whole = wait(start("rtil.cli.report", ["e", "--out", "run.html"], here))
    assert whole.code == 0, (here / "log").read_text()
    (here / "run.html").rename(here / "whole.html")
    words = ["e", "--out"]
    check_files_that_are_made_at_once(
        here, "report", "rtil.cli.report", words, "whole.html", "run.html", whole.cpu_seconds
    )


def test_convert(here: Path, prior: Path) -> None:
    save_rosinality(here / "theirs.pt", load_snapshot(prior).generator, {})
    words = ["theirs.pt", "--no_self_test", "--out"]
    whole = wait(start("rtil.cli.convert", [*words, "whole.safetensors"], here))
    assert whole.code == 0, (here / "log").read_text()
    check_files_that_are_made_at_once(
        here, "convert", "rtil.cli.convert", words, "whole.safetensors", "run.safetensors", whole.cpu_seconds
    )


def test_prepare(here: Path) -> None:
    words = ["faces", "--resolution", "4", "--out"]
    whole = wait(start("rtil.cli.prepare", [*words, "whole.zip"], here))
    assert whole.code == 0, (here / "log").read_text()
    check_files_that_are_made_at_once(here, "prepare", "rtil.cli.prepare", words, "whole.zip", "run.zip", 0.3)


def test_render(here: Path, prior: Path) -> None:
    photo = ["--input", "faces/0.png", "--fit", "--task", "inversion", "--steps", "1", "--device", "cpu"]
    assert wait(start("rtil.cli.reconstruct", [*photo, "--snapshot", str(prior), "--out", "r"], here)).code == 0
    words = ["--result", "r/result.safetensors", "--snapshot", str(prior), "--device", "cpu", "--out"]
    whole = wait(start("rtil.cli.render", [*words, "whole"], here))
    assert whole.code == 0, (here / "log").read_text()
    name = "reconstruction.png"
    check_files_that_are_made_at_once(
        here, "render", "rtil.cli.render", words, f"whole/{name}", f"run/{name}", whole.cpu_seconds
    )


def check_files_that_are_made_at_once(
    folder: Path, name: str, module: str, words: list[str], whole: str, out: str, cpu_seconds: float
) -> None:
    """Kill a command that makes one file: it is absent, or what it should be."""

    def look() -> None:
        if (folder / out).exists():
            assert (folder / out).read_bytes() == (folder / whole).read_bytes()

    def start_anew() -> Any:
        (folder / out).unlink(missing_ok=True)
        return start(module, [*words, out if "/" not in out else out.partition("/")[0]], folder)

    def finish() -> None:
        assert (folder / out).exists()
        assert [path for path in parts(folder) if ".tmp-" in path.name] == []

    killed_until_done(name, start_anew, look, finish, cpu_seconds)


COMPILER = """#!/bin/sh
case "$*" in *--version*) echo "a compiler 1.0"; exit;; esac
sleep 0.1
while [ "$1" != -o ]; do shift; done
echo part > "$2"
sleep 0.1
echo whole >> "$2"
"""


def build_here(folder: str) -> None:
    """Build the library, with a compiler that takes 0.2 s for each of two files; for the process."""
    os.setpgid(0, 0)
    os.environ |= {"RTIL_CACHE": f"{folder}/cache", "CXX": f"{folder}/c++"}
    build.SOURCES = Path(folder) / "sources"
    build.library(cuda=False)


def test_the_build_of_the_operations(tmp_path: Path) -> None:
    """Killed by the clock, as it is the compilers that compute; those are killed too, or finish for nobody."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "a.cpp").write_text("int a;\n")
    (tmp_path / "c++").write_text(COMPILER)
    (tmp_path / "c++").chmod(0o755)
    fork, rng, ops = multiprocessing.get_context("fork"), Random(0), tmp_path / "cache" / "ops"  # noqa: S311
    kills = lives = 0
    while kills < KILLS:
        lives += 1
        process = fork.Process(target=build_here, args=(str(tmp_path),))
        process.start()
        time.sleep(rng.uniform(0.0, 0.6))
        while process.is_alive():
            try:
                os.killpg(process.pid or 0, signal.SIGKILL)
            except ProcessLookupError:  # it has not yet a group of its own
                continue
            process.join()
        kills += process.exitcode == -signal.SIGKILL
        for library in ops.glob("*/*.so"):
            if ".tmp-" not in library.parent.name:
                assert library.read_text() == "part\nwhole\n"
                shutil.rmtree(library.parent)
    process = fork.Process(target=build_here, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == 0
    (made,) = [path for path in ops.iterdir() if path.suffix != ".lock"]
    assert (made / build.LIBRARY).read_text() == "part\nwhole\n"
    print(f"\nbuild: {kills} kills in {lives + 1} lives")


@pytest.mark.parametrize("module", ["rtil.cli.train", "rtil.cli.eval"])
def test_two_at_once_on_one_folder(here: Path, prior: Path, module: str) -> None:
    words = training("stylegan2", 0.08)
    if module == "rtil.cli.eval":
        words = ["--checkpoints", f"a={prior}", "--images", "6", "--steps", "2", "--lpips", "none", "--no_linear"]
        words += ["--device", "cpu", "--out", "run"]
    both = [start(module, words, here) for _ in range(2)]
    outcomes = [wait(process) for process in both]
    assert sorted(outcome.code for outcome in outcomes) == [0, 2], (here / "log").read_text()
    told = [line for line in (here / "log").read_text().splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert "run is in use by process" in told[0] or "run already holds a run" in told[0]


def test_a_clock_that_goes_back_changes_no_training(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtil.cli.train import main

    words: Callable[[str], list[str]] = partial(training, "stylegan2", 0.04)
    assert main(words("whole")) == 0
    assert main([*words("run"), "--kimg", "0.02"]) == 0
    clock = iter(range(10**9, 0, -1))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    for path in (here / "run").iterdir():
        os.utime(path, (4e9, 4e9))
    assert main(["--out", "run", "--resume", "--kimg", "0.04"]) == 0
    assert_equal(state_of(here / "run"), state_of(here / "whole"))
