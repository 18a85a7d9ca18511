"""``rtil eval`` with the linear prior, fusion, representation errors and calibrated intervals."""

import csv
import json
from pathlib import Path

import pytest

from rtil.cli.eval import main
from rtil.files import cache_folder
from rtil.weights.backbones import BACKBONES

REPOSITORY = Path(__file__).resolve().parents[3]
VGG = cache_folder() / BACKBONES["vgg"].file  # of the user, before a test has its own cache
PRESETS = list((REPOSITORY / "configs/eval").glob("*.yaml"))
SMALL = ["--steps", "2", "--images", "2", "--lpips", "none", "--linear", "false", "--device", "cpu"]


def _rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_the_linear_prior_has_its_row(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 9, "test": 9})
    assert main([*SMALL, "--linear", "--out", "e"]) == 0
    assert [row["method"] for row in _rows(workplace / "e")].count("linear") == 2


def test_fusion_is_fitted_once_for_each_checkpoint_and_method(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 9, "test": 9})
    variants = ["--variants", "{ilo: {}, fused: {method: ilo, fusion: 8}}"]
    assert main([*SMALL, "--linear", *variants, "--out", "e"]) == 0
    assert capsys.readouterr().out.count("fusion inverts 8 training pictures") == 2
    rows = _rows(workplace / "e")
    mean = {name: sum(r["psnr"] for r in rows if r["method"] == name) for name in ("ilo", "fused")}  # type: ignore[misc]
    assert mean["fused"] > mean["ilo"] + 1, "the linear prior is far ahead of random weights"
    assert main([*SMALL, "--linear", *variants, "--images", "3", "--out", "e3"]) == 0
    assert "fusion inverts" not in capsys.readouterr().out, "weights are in the cache"
    assert len(_rows(workplace / "e3")) == 3 * (2 * 2 + 1)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--fusion", "3", "--linear"], "valid is 0, or 8"),
        (["--fusion", "60", "--linear"], "fewer than the 60 training pictures"),
        (["--fusion", "8"], "needs a linear prior"),
        (["--fusion", "8", "--linear", "--task", "cs,hdr"], "linear tasks, which hdr is not"),
    ],
)
def test_fusion_that_cannot_be_is_refused(
    asked: list[str], told: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 9, "test": 9})
    assert main([*SMALL, *asked, "--out", "e"]) == 2
    assert told in capsys.readouterr().err
    assert not (workplace / "e").exists()


def test_representation_errors_are_fitted_once_for_all_conditions(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 9, "test": 9})
    several = {"method": "csgm", "restarts": 2, "combination": "mean"}
    variants = json.dumps({"csgm": several, "bayes": several | {"representation": 8}})
    argv = [*SMALL, "--linear", "--variants", variants, "--task", "cs,inpaint"]
    assert main([*argv, "--out", "e"]) == 0
    assert capsys.readouterr().out.count("representation inverts 8 training pictures") == 2
    rows = _rows(workplace / "e")
    for task in ("cs", "inpaint"):
        mean = {
            name: [row for row in rows if (row["method"], row["task"]) == (name, task)] for name in ("csgm", "bayes")
        }
        psnr, error, spread = (
            {name: sum(row[of] for row in own) / len(own) for name, own in mean.items()}  # type: ignore[misc]
            for of in ("psnr", "measurement_error", "spread")
        )
        assert psnr["bayes"] > psnr["csgm"] + 1, "random weights are explained by what they are not"
        assert error["bayes"] < 0.3 * error["csgm"]
        assert spread["bayes"] > 0.01
    assert main([*argv, "--images", "1", "--out", "e1"]) == 0
    assert "representation inverts" not in capsys.readouterr().out, "it is in the cache"


def test_intervals_are_calibrated_on_other_validation_pictures(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 9, "test": 9})
    several = {"method": "ilo", "restarts": 3, "combination": "mean"}
    variants = json.dumps({"one": {"method": "ilo"}, "mean": several, "right": several | {"calibration": 4}})
    assert main([*SMALL, "--split", "validation", "--variants", variants, "--out", "e"]) == 0
    assert capsys.readouterr().out.count("calibration inverts 4 validation pictures") == 2
    rows = {(row["method"], row["checkpoint"], row["image"]): row for row in _rows(workplace / "e")}
    assert len(rows) == 12
    for (method, checkpoint, image), row in rows.items():
        assert ("coverage" in row) == (method != "one")
        if method == "right":
            plain = rows["mean", checkpoint, image]
            assert row["psnr"] == plain["psnr"]
            assert row["interval_scale"] > 1 == plain["interval_scale"], "restarts agree on what is wrong"
            assert all(a > b for a, b in zip(row["coverage"], plain["coverage"], strict=True))
    with (workplace / "e/summary.csv").open() as file:
        lines = {line["method"]: line for line in csv.DictReader(file)}
    assert lines["one"]["coverage_90"] == lines["one"]["interval_scale"] == ""
    assert float(lines["right"]["coverage_90"]) > float(lines["mean"]["coverage_90"])
    assert (workplace / "e/coverage.png").is_file()
    assert "in intervals of 50 / 80 / 90 / 95 %" in (workplace / "e/summary.md").read_text()
    (maps,) = {path.parent for path in (workplace / "e/pictures").glob("*_mean_*rtil*-spread/00.png")}
    assert len(list(maps.iterdir())) == 2
    assert main([*SMALL, "--split", "validation", "--variants", variants, "--images", "3", "--out", "e3"]) == 0
    assert "calibration inverts" not in capsys.readouterr().out, "factors are in the cache"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--calibration", "4"], "one attempt has no spread: add --restarts 4"),
        (["--calibration", "2"], "valid is 0, or 4"),
        (["--calibration", "8", "--restarts", "2", "--combination", "mean"], "at most 7, the validation pictures"),
        (["--selection", "sure"], "'sure' is for denoising"),
        (["--representation", "4", "--linear"], "valid is 0, or 8 training"),
        (["--representation", "8"], "representation is 8 but needs a linear prior"),
        (["--representation", "8", "--linear", "--selection", "heldout"], "selection 'heldout' is not for represent"),
        (["--representation", "8", "--linear", "--back_projection"], "back_projection is not for representation"),
    ],
)
def test_estimation_that_cannot_be_is_refused(
    asked: list[str], told: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 9, "test": 9})
    assert main([*SMALL, "--split", "validation", *asked, "--out", "e"]) == 2
    assert told in capsys.readouterr().err
    assert not (workplace / "e").exists()
