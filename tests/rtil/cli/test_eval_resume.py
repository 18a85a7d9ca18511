"""Evaluations that go on: with their own settings, pictures, weights and rows."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rtil.cli.eval import main
from rtil.errors import Notice
from rtil.evaluation.rows import RowKey
from rtil.evaluation.runner import Runner
from rtil.files import cache_folder
from rtil.weights.backbones import BACKBONES

REPOSITORY = Path(__file__).resolve().parents[3]
VGG = cache_folder() / BACKBONES["vgg"].file  # of the user, before a test has its own cache
PRESETS = list((REPOSITORY / "configs/eval").glob("*.yaml"))
SMALL = ["--steps", "2", "--images", "2", "--lpips", "none", "--linear", "false", "--device", "cpu"]


def _rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


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


def test_dry_run_of_a_run_that_goes_on_is_of_that_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--task", "inpaint", "--method", "csgm", "--out", "e"]) == 0
    capsys.readouterr()
    assert main(["--out", "e", "--resume", "--device", "cpu", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "# inpaint 10 %: csgm rtil measurement (6 steps)\n" in out
    assert "cs 10 %" not in out
    assert "# into e\n" in out


def test_the_options_of_a_run_that_goes_on_are_printed(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*SMALL, "--task", "inpaint", "--method", "csgm", "--csgm.lr", "0.3", "--out", "e"]
    assert main([*argv, "--print_config"]) == 0
    asked = yaml.safe_load(capsys.readouterr().out)
    assert main(argv) == 0
    capsys.readouterr()
    now = ["--device", "cpu", "--task", "sr", "--csgm.steps", "9"]
    assert main(["--out", "e", "--resume", *now, "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed.pop("csgm") == asked.pop("csgm") | {"steps": 9}
    checkpoints = printed["checkpoints"]
    assert list(checkpoints) == ["vanilla", "rtil"]  # which ones they were, not that the newest are wanted
    assert printed == asked | {"task": ["sr"], "resume": True, "checkpoints": checkpoints}


def test_what_nothing_uses_is_told_when_a_run_goes_on_too(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--method", "csgm", "--out", "e"]) == 0
    assert main(["--out", "e", "--resume", "--device", "cpu", "--z1_weight", "1"]) == 2
    assert "method 'csgm' does not use z1_weight: leave it away" in capsys.readouterr().err


def test_runs_of_older_versions_are_not_gone_on_with(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--out", "e"]) == 0
    settings = json.loads((workplace / "e/settings.json").read_text())
    del settings["format"]
    (workplace / "e/settings.json").write_text(json.dumps(settings))
    before = _rows(workplace / "e")
    assert main(["--out", "e", "--resume", "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert "older version" in err
    assert err.count("\n") == 1
    assert _rows(workplace / "e") == before


def test_other_pictures_under_the_same_name_are_refused(
    workplace: Path, make_pictures: Callable[[Path, int, int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_pictures(workplace / "held", 4, 16)
    assert main([*SMALL, "--data", str(folder), "--out", "e"]) == 0
    before, (first, second) = _rows(workplace / "e"), dict.fromkeys(row["image"] for row in _rows(workplace / "e"))
    kept = (folder / str(second)).read_bytes()
    (folder / str(second)).write_bytes((folder / str(first)).read_bytes())
    for more in ([], ["--images", "3"]):
        assert main(["--out", "e", "--resume", "--device", "cpu", *more]) == 2
        assert f"rows of other pictures under the same name ('{second}')" in capsys.readouterr().err
    (folder / str(second)).write_bytes(kept)
    assert main(["--out", "e", "--resume", "--device", "cpu", "--images", "3"]) == 0
    assert _rows(workplace / "e")[: len(before)] == before, "more pictures are more rows"
    assert len(_rows(workplace / "e")) == len(before) * 3 // 2


def test_a_run_keeps_its_pictures_whatever_comes_or_goes(
    workplace: Path, make_pictures: Callable[[Path, int, int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_pictures(workplace / "held", 5, 16)
    assert main([*SMALL, "--data", str(folder), "--out", "e"]) == 0
    before = _rows(workplace / "e")
    make_pictures(workplace / "more", 9, 16)
    for path in (workplace / "more").iterdir():
        path.rename(folder / f"a{path.name}")
    for lost in [folder / str(before[0]["image"]), *(workplace / "e").glob("pictures/*ilo*/00.png")]:
        lost.unlink()
    (workplace / "e/pictures/truth/01.png").write_bytes(b"no picture")
    again = ["--out", "e", "--resume", "--device", "cpu"]
    gone = re.escape(f"gone from {folder}: 1 of 2 (first: '{before[0]['image']}')")
    with pytest.warns(Notice, match=gone):
        assert main(again) == 0
    assert _rows(workplace / "e") == before, "nothing is computed anew"
    assert caplog.text.count("grids show grey") == 2
    with pytest.warns(Notice, match="1 of 3"):
        assert main([*again, "--images", "3", "--method", "csgm,ilo"]) == 0
    counts = {(row["method"], row["image"]) for row in _rows(workplace / "e")}
    assert len(counts) == 2 + 1 + 2, "of the picture that is gone only ilo's"


def test_rows_of_damaged_lines_are_computed_anew(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--out", "e"]) == 0
    path, before = workplace / "e/rows.jsonl", _rows(workplace / "e")
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b'"psnr"') + 9] ^= 1
    path.write_bytes(damaged)
    assert main(["--out", "e", "--resume", "--device", "cpu"]) == 0
    again = _rows(workplace / "e")
    assert again[:-1] == before[1:]
    assert [again[-1][name] for name in RowKey._fields] == [before[0][name] for name in RowKey._fields]
    assert again[-1]["psnr"] == pytest.approx(before[0]["psnr"], abs=1e-3), "of a batch of one"
    assert (workplace / "e/rows.damaged").read_bytes().count(b"\n") == 1


def test_numbers_that_are_not_finite_are_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from rtil.evaluation.reconstruction import Reconstruction

    invert = Reconstruction.invert

    def diverging(self: Reconstruction, *arguments: object) -> object:
        batch = invert(self, *arguments)  # type: ignore[arg-type]
        batch.values[1]["psnr"] = math.nan
        return batch

    monkeypatch.setattr(Reconstruction, "invert", diverging)
    assert main([*SMALL, "--out", "e"]) == 0
    image = _rows(workplace / "e")[1]["image"]
    assert f"not finite: psnr of {image!r} (cs 0.1, ilo vanilla, ok)" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("options", []),
        ("identity", 3),
        ("identity", {"weights": 3}),
        ("solvers", "x"),
        ("solvers", {"a": 3}),
        ("pictures", {}),
        ("pictures", [3]),
    ],
)
def test_settings_of_other_types_are_one_line(
    name: str, value: object, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--out", "e"]) == 0
    path = workplace / "e/settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    capsys.readouterr()
    assert main(["--out", "e", "--resume", "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "e holds no evaluation" in err if name == "options" else f"is damaged ({name}" in err
