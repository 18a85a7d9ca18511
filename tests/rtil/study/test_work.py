"""Whole studies: what is written, restarts after kills, changes, shards, several seeds."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtil.cli.study import main
from rtil.evaluation.rows import RowFile
from rtil.evaluation.runner import Runner
from rtil.snapshot import load_snapshot, save_snapshot
from rtil.study.tuning import read_trials
from tests.rtil.study.conftest import PAIR, SMALL

TUNE = {
    "evaluations": ["cs"],
    "trials": 3,
    "images": 2,
    "settings": {"ilo": {"lr": {"low": 0.05, "high": 0.4, "log": True}}},
}
FIGURES = {
    "levels": {"kind": "levels_curve", "metrics": ["psnr", "squared_error"], "published": "rtil_figure4"},
    "rounds": {"kind": "rounds"},
    "bars": {"kind": "ablation_bars"},
    "seconds": {"kind": "error_vs_seconds", "metrics": ["squared_error"]},
    "trace": {"kind": "tuning_trace"},
}
WHOLE: dict[str, Any] = {
    "evaluations": {"cs": {"task": ["cs"], "rates": [0.5], "method": ["ilo", "csgm"], **SMALL}},
    "seeds": [0, 1],
    "tune": TUNE,
    "figures": FIGURES,
    "ratios": ["csgm / ilo"],
}


class Killed(BaseException):
    """What ends a process at once."""


def table(path: Path, without: tuple[str, ...] = ("seconds",)) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{name: text for name, text in line.items() if name not in without} for line in csv.DictReader(file)]


def state(out: Path) -> dict[str, Any]:
    """Everything that counts of a study, but for the time it took."""
    found: dict[str, Any] = {"summary": table(out / "summary.csv"), "ratios": table(out / "ratios.csv")}
    for path in sorted(out.rglob("trials.csv")):
        found[str(path.relative_to(out))] = table(path)
    for path in [*out.glob("figures/*.csv"), *out.rglob("pictures/*/*.png")]:
        if path.name != "seconds.csv":
            found[str(path.relative_to(out))] = path.read_bytes()
    return found


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures that are inverted, at its only place."""
    done = [0]
    save = Runner._save

    def counted(self: Runner, job: Any, indices: Any, x: Any) -> None:
        done[0] += len(indices)
        save(self, job, indices, x)

    monkeypatch.setattr(Runner, "_save", counted)
    return done


@pytest.mark.slow
def test_a_study_that_is_killed_anywhere_ends_as_one_that_is_not(
    run_study: Callable[..., Path], write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = state(run_study(out="straight", **WHOLE))
    assert {"figures/trace.csv", "figures/levels.csv", "tuning/cs-ilo-rtil/trials.csv"} <= straight.keys()
    extend, left = RowFile.extend, [0]

    def killing(self: RowFile, rows: Any) -> None:
        extend(self, rows)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(RowFile, "extend", killing)
    path, kills = write_study(**WHOLE), 0
    for moment in (3, 7, 1, 9, 2, 0):  # batches: within and between evaluations, within and between trials
        left[0] = moment
        try:
            assert main([str(path), "--out", "killed", "--device", "cpu"]) == 0
        except Killed:
            kills += 1
    assert kills == 5
    assert state(Path("killed")) == straight


def test_the_same_study_again_computes_nothing(run_study: Callable[..., Path], count: list[int]) -> None:
    first = state(run_study(**WHOLE))
    done = count[0]
    own, tried, tuned = 2 * 2 * 3 * 2, 2 * 3 * 2, 2 * 3 * 2
    assert done == own + tried + tuned
    assert state(run_study(**WHOLE)) == first
    assert count[0] == done


def test_a_changed_study_computes_what_is_new_alone(
    run_study: Callable[..., Path], count: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    cs = {"task": ["cs"], "rates": [0.25, 0.5], **SMALL}
    out = run_study(evaluations={"cs": cs})
    assert count[0] == 12
    run_study(evaluations={"cs": cs | {"rates": [0.5, 0.75]}, "sr": {"task": ["sr"], "factors": [2], **SMALL}})
    assert count[0] == 12 + 6 + 6
    assert {line["level"] for line in table(out / "summary.csv")} == {"0.5", "0.75", "2"}
    assert "6 rows of an older form of the study are set aside" in capsys.readouterr().out
    assert [path.name for path in (out / "aside").iterdir()] == ["cs-seed0-1"]
    changed = state_of_pictures(out)
    shutil.rmtree(out)
    run_study(evaluations={"cs": cs | {"rates": [0.5, 0.75]}, "sr": {"task": ["sr"], "factors": [2], **SMALL}})
    assert state_of_pictures(out) == changed


def state_of_pictures(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("evaluations/*/pictures/*/*.png")}


def test_other_weights_under_a_name_are_computed_anew_and_no_others(
    run_study: Callable[..., Path], count: list[int], make_run: Callable[..., Path]
) -> None:
    out = run_study()
    before = table(out / "summary.csv")
    snapshot = next(Path(PAIR["rtil"]).glob("*.safetensors"))
    other = load_snapshot(make_run("9-other", rtil=True, weights=9))
    save_snapshot(snapshot, other.generator, other.info)
    run_study()
    assert count[0] == 6 + 3
    vanilla, rtil = table(out / "summary.csv")
    assert vanilla == before[0]
    assert rtil != before[1]


def test_shards_and_the_command_behind_them_give_what_one_process_gives(
    run_study: Callable[..., Path], count: list[int]
) -> None:
    straight = state(run_study(out="straight", **WHOLE))
    done = count[0]
    for shard in ("2/3", "1/3", "3/3"):
        out = run_study("--shard", shard, out="shards", **WHOLE)
        assert not (out / "summary.csv").exists()
    assert count[0] == 2 * done
    assert state(run_study(out="shards", **WHOLE)) == straight
    assert count[0] == 2 * done


def test_shards_of_another_study_are_refused(
    run_study: Callable[..., Path], write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run_study("--shard", "1/2")
    path = write_study(seeds=[4])
    assert main([str(path), "--out", "s", "--shard", "2/2", "--device", "cpu"]) == 2
    assert "holds another study, or an older form of this one" in capsys.readouterr().err
    assert main(["no_such"]) == 2
    assert "no preset 'no_such' of rtil study" in capsys.readouterr().err


def test_several_studies_are_one_command(write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    first = write_study()
    second = first.with_name("other.yaml")
    shutil.copy(first, second)
    words = ["--out", "both", "--device", "cpu", "--eval", "images=2"]
    assert main([str(first), str(second), *words]) == 0
    for name in ("mine", "other"):
        assert len(table(Path("both", name, "summary.csv"))) == 2
        page = Path("both", name, "report.html").read_text()
        assert f"{name}.yaml --eval images=2 --out both/{name}" in page
    assert main([str(first), "no_such", *words]) == 2
    assert main([str(first), str(first), *words]) == 2
    assert "names one twice" in capsys.readouterr().err


def test_a_stop_tells_how_to_go_on_with_the_study(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "run", stop)
    assert main([str(write_study()), "--out", "s", "--device", "cpu"]) == 130
    assert capsys.readouterr().err == "interrupted: what is finished is kept, go on with the same command\n"


def test_several_training_seeds_are_the_level_above_the_pictures(
    run_study: Callable[..., Path], make_run: Callable[..., Path]
) -> None:
    for seed in (0, 1, 2):
        make_run(f"v{seed}", rtil=False, weights=seed)
        make_run(f"r{seed}", rtil=True, weights=10 + seed)
    paths = {"vanilla": "runs/train/v{seed}", "rtil": "runs/train/r{seed}"}
    out = run_study(checkpoints=paths, training_seeds=[0, 1, 2], seeds=[0, 1])
    assert len(list((out / "evaluations").iterdir())) == 6
    vanilla, rtil = table(out / "summary.csv")
    assert (vanilla["seeds"], rtil["seeds"], rtil["n"]) == ("3", "3", "3")
    rows = [json.loads(line) for path in out.rglob("rows.jsonl") for line in path.read_text().splitlines()]
    mean = sum(row["psnr"] for row in rows if row["checkpoint"] == "rtil") / 18
    assert float(rtil["psnr"]) == pytest.approx(mean, abs=1e-4)


@pytest.mark.slow
def test_checkpoints_that_are_not_there_are_trained_once(
    run_study: Callable[..., Path], write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"resolution": 16, "channels": "{4: 8, 8: 8, 16: 8}", "mapping_layers": 2, "z_dim": 16, "w_dim": 16}
    trained = {"train": small | {"batch": 8, "kimg": 0.016, "rtil": True, "device": "cpu"}}
    out = run_study(checkpoints={"rtil": trained}, training_seeds=[3, 4])
    snapshots = {path: path.stat().st_mtime_ns for path in out.rglob("snapshot-*.safetensors")}
    assert len(snapshots) == 2
    infos = [load_snapshot(path).info for path in snapshots]
    assert {(info["seed"], info["rtil"]) for info in infos} == {(3, True), (4, True)}
    run_study(checkpoints={"rtil": trained}, training_seeds=[3, 4])
    assert {path: path.stat().st_mtime_ns for path in snapshots} == snapshots
    other = {"rtil": {"train": trained["train"] | {"kimg": 0.024}}}
    assert main([str(write_study(checkpoints=other, training_seeds=[3, 4])), "--out", "s"]) == 2
    assert "checkpoint 'rtil' of s is trained with other options" in capsys.readouterr().err


def test_tuned_settings_stand_beside_the_studys_own(run_study: Callable[..., Path]) -> None:
    out = run_study(**WHOLE)
    lines = table(out / "summary.csv")
    methods = {(line["method"], line["checkpoint"]) for line in lines}
    assert methods == {(m, c) for m in ("ilo", "csgm", "ilo-tuned") for c in ("vanilla", "rtil")}
    (tuned,) = [x for x in lines if (x["method"], x["checkpoint"], x["level"]) == ("ilo-tuned", "rtil", "0.5")]
    assert tuned["reference"] == "vanilla"
    trials = {c: read_trials(out / "tuning" / f"cs-ilo-{c}") for c in ("vanilla", "rtil")}
    assert [len(of) for of in trials.values()] == [3, 3]
    for checkpoint, of in trials.items():
        best = max(of, key=lambda trial: trial.psnr)
        settings = json.loads((out / f"evaluations/cs-tuned-ilo-{checkpoint}-seed0/settings.json").read_text())
        (record,) = settings["solvers"].values()
        assert record["lr"] == [best.settings.get("lr", 0.1)] * 2  # of two rounds
        assert f"with {checkpoint} tuning chose" in (out / "summary.md").read_text()
