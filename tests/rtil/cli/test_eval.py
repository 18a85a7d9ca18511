import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rtil.cli.eval import EvalOptions, main
from rtil.evaluation.runner import Runner

REPOSITORY = Path(__file__).resolve().parents[3]
SMALL = ["--steps", "2", "--images", "2", "--lpips", "none", "--linear", "false", "--device", "cpu"]


def _rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_the_newest_pair_is_compared_without_any_argument_but_size(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SMALL) == 0
    out = capsys.readouterr().out
    folder = workplace / "runs/eval/00000-ilo-cs-synthetic-16"
    rows = _rows(folder)
    assert {(row["checkpoint"], row["task"], row["rate"]) for row in rows} == {
        ("vanilla", "cs", 0.1),
        ("rtil", "cs", 0.1),
    }
    assert all(len(row["psnr_round"]) == 3 for row in rows)  # type: ignore[arg-type]
    with (folder / "summary.csv").open() as file:
        assert [line["checkpoint"] for line in csv.DictReader(file)] == ["vanilla", "rtil"]
    assert "vs vanilla" in out
    assert f"summary: {folder.relative_to(workplace)}/summary.csv" in out
    assert "grid-cs-0.1-ilo.png" in out
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["options"]["images"] == 2
    assert settings["checkpoints"]["rtil"]["info"]["rtil"] is True


def test_tasks_methods_and_checkpoints_are_lists(workplace: Path) -> None:
    paths = [f"{name}=runs/train/0000{n}-stylegan2-{name}-synthetic-16" for n, name in enumerate(["vanilla", "rtil"])]
    asked = ["--method", "ilo,csgm", "--task", "cs,inpaint,sr,denoise,inversion", "--rates", "0.05,0.1"]
    assert main([*SMALL, *asked, "--out", "e", "--checkpoints", *paths]) == 0
    rows = _rows(workplace / "e")
    assert len(rows) == 2 * 2 * (2 + 2 + 1 + 1 + 1) * 2
    assert {len(r["psnr_round"]) for r in rows if r["method"] == "csgm"} == {1}  # type: ignore[arg-type]
    assert len(list((workplace / "e").glob("grid-*.png"))) == 14


def test_the_linear_prior_has_its_row(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 9, "test": 9})
    assert main([*SMALL, "--linear", "--out", "e"]) == 0
    assert [row["method"] for row in _rows(workplace / "e")].count("linear") == 2


def test_a_run_is_resumed_with_its_own_settings(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*SMALL, "--task", "cs,inpaint", "--seed", "3"]
    assert main([*argv, "--out", "straight"]) == 0
    save = Runner._save
    batches: list[int] = []

    def interrupted(self: Runner, *arguments: object) -> None:
        batches.append(0)
        if len(batches) == 3:
            raise KeyboardInterrupt
        save(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_save", interrupted)
        assert main([*argv, "--out", "e"]) == 130
    assert "go on with --out e --resume" in capsys.readouterr().err
    assert len(_rows(workplace / "e")) == 4
    assert main([*argv, "--out", "e"]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main(["--out", "e", "--resume"]) == 0
    keys = ["image", "task", "checkpoint", "seed", "settings", "psnr", "ssim"]
    assert [[row[k] for k in keys] for row in _rows(workplace / "e")] == [
        [row[k] for k in keys] for row in _rows(workplace / "straight")
    ]


def test_other_weights_under_the_same_name_are_not_mixed(
    workplace: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--out", "e"]) == 0
    other = make_run("00007-x", rtil=True, weights=9)
    assert main([*SMALL, "--out", "e", "--resume", "--checkpoints", f"rtil={other}"]) == 2
    assert "checkpoint 'rtil' of e had other weights" in capsys.readouterr().err
    assert main([*SMALL, "--out", "e", "--resume", "--checkpoints", f"rtil-2={other}"]) == 0
    assert {row["checkpoint"] for row in _rows(workplace / "e")} == {"vanilla", "rtil", "rtil-2"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--method", "iloo"], ["unknown method 'iloo'", "'ilo'"]),
        (["--task", "cs,inpant"], ["unknown task 'inpant'", "'inpaint'"]),
        (["--selection", "mesurement"], ["'measurement'"]),
        (["--lpips", "alexnet"], ["--lpips", "'alex'"]),
        (["--noise", "5+k"], ["--noise", "5+2k"]),
        (["--rates", "0"], ["rate", "0 < rate <= 1"]),
        (["--rates", "ten"], ["--rates", "'ten'"]),
        (["--task", "sr", "--factors", "5"], ["factor is 5", "2, 4, 8, 16"]),
        (["--task", "denoise", "--sigmas=-3"], ["-3", ">= 0"]),
        (["--task", "inpaint", "--mask", "no.png"], ["no.png"]),
        (["--images", "2000"], ["valid is 1 to 1000"]),
        (["--images", "0"], ["valid is 1 to 1000"]),
        (["--data", "no/folder"], ["no/folder"]),
        (["--checkpoints", "a=no/run"], ["no/run", "does not exist"]),
        (["--checkpoints", "a/b=runs/train"], ["'a/b'"]),
        (["--checkpoints", "a=runs"], ["no snapshot in runs"]),
        (["--steps", "1,2,3,4,5"], ["5 rounds", "1 to 3"]),
        (["--batch", "0"], ["batch is 0"]),
        (["--device", "gpu"], ["'gpu'", "cuda"]),
        (["--resume"], ["--resume needs --out"]),
        (["--resume", "--out", "new"], ["holds no run to resume"]),
        (["--resume", "--out", "runs/train/00000-stylegan2-vanilla-synthetic-16"], ["settings.json"]),
    ],
)
def test_a_mistake_is_one_line_code_2_and_leaves_no_folder(
    argv: list[str], words: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not (workplace / "runs/eval").exists()
    assert not (workplace / "new").exists()


def test_checkpoints_of_different_resolutions(
    workplace: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = make_run("00008-a", rtil=False), make_run("00009-b", rtil=True, resolution=32)
    assert main([*SMALL, "--checkpoints", f"a={small}", f"b={large}"]) == 2
    assert "a 16 px, b 32 px" in capsys.readouterr().err


def test_dry_run_lists_the_work_and_writes_nothing(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "# cs 10 %: ilo rtil measurement\n" in out
    assert "# into runs/eval/NNNNN-ilo-cs-synthetic-16\n" in out
    assert not (workplace / "runs/eval").exists()


@pytest.mark.parametrize("name", ["ilo", "csgm", "quick"])
def test_presets_are_valid_and_commented(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = REPOSITORY / "configs/eval" / f"{name}.yaml"
    assert main(["--config", str(path), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    lines = path.read_text().splitlines()
    for key, value in yaml.safe_load(path.read_text()).items():
        assert printed[key] == value
        (line,) = (n for n, text in enumerate(lines) if text.startswith(f"{key}:"))
        assert lines[line - 1].startswith("# ")


def test_defaults_are_valid() -> None:
    assert EvalOptions().places()[0].label == "cs 10 %"
