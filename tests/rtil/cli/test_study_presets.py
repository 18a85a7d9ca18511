"""Every preset of ``configs/study``, in both sizes, as far as a dry run goes, with tiny checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rtil.cli.study import main
from rtil.inverse.perceptual import Perceptual
from rtil.study.reading import read_study
from rtil.study.specification import SIZES
from rtil.weights.classifiers import Classifier

FOLDER = Path(__file__).resolve().parents[3] / "configs/study"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
DOCS = FOLDER.parents[1] / "docs/howto/study.md"


class Weightless(Perceptual):
    """A perceptual term that knows its sizes, and no weights."""

    def __init__(self, name: Any, compute_dtype: torch.dtype = torch.float32) -> None:
        nn.Module.__init__(self)
        self.name = name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PRESETS)
def test_every_cell_of_a_preset_can_be_computed(
    name: str,
    size: str,
    tmp_path: Path,
    make_run: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    side = 256 if size == "paper" else 32
    arch = "pggan" if size == "paper" and name in ("rtil_figure5", "rtil_figure7", "rtil_figure22") else "stylegan2"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rtil.data.synthetic_faces.SIZES", {"train": 60, "validation": 20, "test": 20})
    monkeypatch.setattr("rtil.inverse.perceptual.Perceptual", Weightless)
    monkeypatch.setattr("rtil.evaluation.reconstruction.open_baseline", lambda name, drunet: None)
    monkeypatch.setattr("rtil.study.cost.seconds_per_step", lambda method, codes, device: 0.001)
    grey = torch.tensor(0.5)
    wanted = read_study(name, size).evaluations.get("classes", {}).get("classes", ["a"])
    names = [one.replace("_", " ") for one in wanted]
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(names)))
    classifier = Classifier(network, 32, grey, grey, names, "stand-in")
    monkeypatch.setattr("rtil.cli.comparison.open_classifier", lambda source, side: classifier)
    study = read_study(name, size)
    for checkpoint in study.checkpoints:
        make_run(checkpoint, rtil=checkpoint == "rtil", resolution=side, arch=arch)
    paths = [f"{checkpoint}=runs/train/{checkpoint}" for checkpoint in study.checkpoints]
    small = [] if "classes" in study.evaluations else ["--eval", "images=2"]
    argv = [name, "--size", size, "--checkpoints", *paths, *small, "--device", "cpu", "--dry_run"]
    if study.tune is not None:
        pytest.importorskip("optuna", reason="needs the extra 'study'")
        monkeypatch.setattr("rtil.study.tuning.Tuning.__init__", lambda *args: None)
    assert main(argv) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    for evaluation in study.evaluations:
        assert f"# evaluation {evaluation}, 1 run(s)" in out
    assert out.count(" steps") > len(study.evaluations)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PRESETS)
def test_one_number_of_steps_says_how_many_rounds_have_it(name: str, size: str) -> None:
    study = read_study(name, size)
    for evaluation in study.evaluations:
        for candidate in study.options(evaluation).candidates():
            budget = candidate.budget
            assert budget.steps is None or len(budget.steps) > 1 or budget.rounds == 1, candidate.label


@pytest.mark.parametrize("name", PRESETS)
def test_options_of_presets_are_commented(name: str) -> None:
    """Those on lines of their own; tables of variants, settings and ranges speak for themselves."""
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    free = ("variants:", "ilo:", "mganprior:")
    inside = 0
    for before, line in zip(["", *lines], lines, strict=False):
        depth = len(line) - len(line.lstrip())
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if inside and depth > inside:
            continue
        inside = depth if line.strip() in free and "tune" not in before else 0
        is_candidate = line.strip() in ("ilo:", "mganprior:")
        assert before.lstrip().startswith("# ") or is_candidate, line
        if is_candidate and before.lstrip().startswith("# ") and _is_evaluation(lines, line):
            inside = 0


def _is_evaluation(lines: list[str], line: str) -> bool:
    place = lines.index(line)
    parents = [
        one for one in lines[:place] if one.strip() and len(one) - len(one.lstrip()) < len(line) - len(line.lstrip())
    ]
    return parents[-1].strip() in ("evaluations:",) or parents[-1].lstrip().startswith("#")


def test_the_study_of_the_guide_is_one(tmp_path: Path) -> None:
    (text,) = [block.split("```")[0] for block in DOCS.read_text().split("```yaml\n")[1:]]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    study = read_study(str(path), "quick")
    assert study.tune is not None
    assert study.options("cs").images == 8
