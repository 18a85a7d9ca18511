import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image

from rtil.cli.eval import main
from rtil.evaluation.runner import Runner

ARCH = "squeezenet1_1"
SMALL = [
    "--task",
    "classifier",
    "--steps",
    "2",
    "--classifier_side",
    "32",
    "--pictures_per_class",
    "2",
    "--device",
    "cpu",
]


@pytest.fixture
def asked(workplace: Path) -> list[str]:
    """Options for a classifier of random weights in a file."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(ARCH, weights=None).state_dict(), workplace / "net.pt")
    return [*SMALL, "--classifier", f"torchvision:{ARCH}=net.pt", "--classes", "goldfish,Irish_wolfhound"]


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_a_grid_over_radius_and_class_for_each_checkpoint(
    asked: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*asked, "--radius_scales", "0,1,none"]) == 0
    folder = workplace / f"runs/eval/00000-ilo-classifier-{ARCH}"
    rows = _rows(folder)
    assert len(rows) == 2 * 2 * 3 * 2
    assert {(row["checkpoint"], row["task"], row["level"], row["method"]) for row in rows} == {
        (checkpoint, "classifier", name, f"ilo-{column}")
        for checkpoint in ("vanilla", "rtil")
        for name in ("goldfish", "Irish wolfhound")
        for column in ("r0", "r1", "free")
    }
    for row in rows:
        scores = row["scores"]
        if row["method"] == "ilo-r0":
            assert scores["rms_change"] == 0
            assert scores["probability_after"] == scores["probability_before"]
        if row["method"] == "ilo-free":
            assert scores["rms_change"] > 0
    before = {(row["checkpoint"], row["image"], row["level"]): row["scores"]["probability_before"] for row in rows}
    assert len(before) == 2 * 2 * 2
    for row in rows:
        assert row["scores"]["probability_before"] == before[row["checkpoint"], row["image"], row["level"]]
    with (folder / "summary.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    assert {line["pictures"] for line in lines} == {"2"}
    for name in ("vanilla", "rtil"):
        with Image.open(folder / f"grid-ilo-{name}.png") as grid:
            assert grid.width > 4 * 100 + 4 + 50  # the names of classes are on the left
            assert 4 * 96 < grid.height < 5 * 104
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["options"]["classes"] == ["goldfish", "Irish_wolfhound"]
    assert {row["settings"] for row in rows} == set(settings["solvers"])
    assert settings["solvers"][str(rows[0]["settings"])]["classifier"]["side"] == 32
    out = capsys.readouterr().out
    assert f"summary: {folder.relative_to(workplace)}/summary.csv" in out
    assert "p before" in out


def test_radii_are_those_that_are_asked_for_times_the_scale(asked: list[str], workplace: Path) -> None:
    argv = [*asked, "--radius_feature", "0,2,4", "--radius_scales", "0.5", "--classes", "1", "--out", "e"]
    assert main(argv) == 0
    solvers = json.loads((workplace / "e/settings.json").read_text())["solvers"].values()
    assert {tuple(solver["radius_feature"]) for solver in solvers} == {(0, 1, 2)}
    assert not any("radius_latent" in solver for solver in solvers)


def test_csgm_stays_in_the_range(asked: list[str], workplace: Path) -> None:
    assert main([*asked, "--method", "csgm", "--radius_scales", "1,none", "--classes", "1", "--out", "e"]) == 0
    assert {row["method"] for row in _rows(workplace / "e")} == {"csgm-r1", "csgm-free"}
    assert (workplace / "e/grid-csgm-rtil.png").is_file()


def test_a_stopped_run_goes_on_where_it_was(
    asked: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = "--steps 1 --batch 1 --radius_scales 1,none --checkpoints rtil=runs/train/00001-stylegan2-rtil-synthetic-16"
    argv = [*asked, *one.split()]
    assert main([*argv, "--out", "straight"]) == 0
    save, calls = Runner._save, []

    def interrupted(self: Runner, *arguments: object) -> None:
        calls.append(0)
        if len(calls) == 6:
            raise KeyboardInterrupt
        save(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_save", interrupted)
        assert main([*argv, "--out", "e"]) == 130
    assert "go on with --out e --resume" in capsys.readouterr().err
    assert len(_rows(workplace / "e")) == 5
    assert main(["--out", "e", "--resume"]) == 0
    keys = ["image", "level", "method", "settings", "status"]
    numbers = ["probability_before", "probability_after", "rms_change"]
    resumed, straight = _rows(workplace / "e"), _rows(workplace / "straight")
    assert [[row[k] for k in keys] for row in resumed] == [[row[k] for k in keys] for row in straight]
    for row, other in zip(resumed, straight, strict=True):  # one step of Adam makes much of the last bits of a sum
        assert [row["scores"][k] for k in numbers] == pytest.approx([other["scores"][k] for k in numbers], rel=1e-2)
    assert (workplace / "e/grid-ilo-rtil.png").is_file()


def test_another_class_is_added_to_a_run(asked: list[str], workplace: Path) -> None:
    argv = [*asked, "--radius_scales", "none", "--out", "e"]
    assert main([*argv, "--classes", "1"]) == 0
    before = _rows(workplace / "e")
    assert main(["--out", "e", "--resume", "--classes", "1,2"]) == 0
    after = _rows(workplace / "e")
    assert after[: len(before)] == before
    assert {row["level"] for row in after} == {"goldfish", "great white shark"}


def test_dry_run_says_what_would_be_done(asked: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*asked, "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert f"# classifier: torchvision:{ARCH}=net.pt, 1000 classes, at 32 px\n" in out
    assert "# goldfish: ilo-r0.25 rtil measurement (2,2,2 steps)\n" in out
    assert "# Irish wolfhound: ilo-free vanilla measurement (2,2,2 steps)\n" in out
    assert f"# into runs/eval/NNNNN-ilo-classifier-{ARCH}\n" in out
    assert not (workplace / "runs/eval").exists()


def test_options_come_from_a_file_too(asked: list[str], workplace: Path) -> None:
    (workplace / "c.yaml").write_text("radius_scales: [0.5, none]\nclasses: [1, tench]\n")
    assert main([*asked[:-2], "--config", "c.yaml", "--out", "e"]) == 0
    assert {(row["method"], row["level"]) for row in _rows(workplace / "e")} == {
        (method, name) for method in ("ilo-r0.5", "ilo-free") for name in ("goldfish", "tench")
    }


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--classes", "goldfsh"], ["unknown class 'goldfsh'", "did you mean 'goldfish'", "0 to 999"]),
        (["--classes", "goldfish,1"], ["classes is goldfish,1", "each once"]),
        (["--classes", ""], ["needs --classes"]),
        (["--classifier", ""], ["needs --classifier", "efficientnet-lite0"]),
        (["--classifier", "resnet18"], ["classifier is 'resnet18'", "torchvision:NAME"]),
        (["--classifier", f"torchvision:{ARCH}=no.pt"], ["no.pt", "does not exist"]),
        (["--task", "classifier,cs"], ["no picture to reconstruct", "cs"]),
        (["--task", "cs"], ["classifier is of task classifier", "add --task classifier"]),
        (["--method", "mganprior"], ["'mganprior' has no task classifier", "ilo, csgm"]),
        (["--method", "csgm", "--range_projection", "1"], ["'csgm' does not use range_projection", "leave it away"]),
        (["--selection", "heldout"], ["selection is heldout", "measurement or last"]),
        (["--radius_scales", "1,-2"], ["radius_scales is 1,-2", "numbers of 0 or more and none"]),
        (["--radius_scales", "1,1.0"], ["radius_scales", "each once"]),
        (["--radii", "a61-1", "--radius_feature", "3"], ["'a61-1' sets radius_feature itself"]),
        (["--pictures_per_class", "0"], ["pictures_per_class is 0"]),
        (["--classifier_side", "8"], ["classifier_side is 8"]),
        (["--steps", "1,2,3,4,5"], ["5 rounds", "1 to 3"]),
        (["--checkpoints", "a=no/run"], ["no/run", "does not exist"]),
    ],
)
def test_a_mistake_is_one_line_code_2_and_leaves_no_folder(
    argv: list[str], words: list[str], asked: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*asked, *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not (workplace / "runs/eval").exists()


def test_pictures_of_any_resolution_are_compared(
    asked: list[str], workplace: Path, make_run: Callable[..., Path]
) -> None:
    small, large = make_run("00008-a", rtil=False), make_run("00009-b", rtil=True, resolution=32)
    checkpoints = ["--checkpoints", f"a={small}", f"b={large}", "--out", "e"]
    assert main([*asked, "--radius_scales", "none", "--steps", "1", "--rounds", "1", *checkpoints]) == 0
    assert {row["checkpoint"] for row in _rows(workplace / "e")} == {"a", "b"}
