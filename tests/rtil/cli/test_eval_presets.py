"""Every preset of ``configs/eval`` as far as a dry run goes, with tiny checkpoints and without downloads."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from ilo.settings import ILOSettings
from rtil.cli.eval import EvalOptions, main
from rtil.inverse.operators import OPERATORS
from rtil.inverse.perceptual import Perceptual
from rtil.weights.classifiers import Classifier

PRESETS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((Path(__file__).resolve().parents[3] / "configs/eval").glob("*.yaml"))
}
GENERATING = [name for name, preset in PRESETS.items() if preset.get("task") == ["classifier"]]
LEVELS = {"sr": "factors", "denoise": "sigmas", "blur": "widths", "motion": "lengths", "phase": "exposures"}
"""Other tasks of presets have rates."""
SINGLE = [name for name, task in OPERATORS.items() if not task.parameters]
ITEM = re.compile(
    r"# (?P<place>[^:]+): (?P<column>\S+) (?P<checkpoint>vanilla|rtil) (measurement|heldout|last) .*steps"
)


class Weightless(Perceptual):
    """A perceptual term that knows its sizes, and no weights."""

    def __init__(self, name: Any, compute_dtype: torch.dtype = torch.float32) -> None:
        nn.Module.__init__(self)
        self.name = name


@pytest.fixture
def side() -> int:
    """The side of most presets."""
    return 32


@pytest.fixture
def pair(tmp_path: Path, make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, side: int) -> Path:
    """A current folder with a vanilla and an RTIL run; returns that of the latter."""
    make_run("00000-vanilla", rtil=False, resolution=side, weights=1)
    rtil = make_run("00001-rtil", rtil=True, resolution=side, weights=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rtil.inverse.perceptual.Perceptual", Weightless)
    monkeypatch.setattr("rtil.evaluation.reconstruction.open_baseline", lambda name, drunet: None)
    return rtil


def dry_run(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    path = Path(__file__).resolve().parents[3] / f"configs/eval/{name}.yaml"
    assert main(["--config", str(path), "--images", "2", "--device", "cpu", "--dry_run"]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


@pytest.mark.filterwarnings("error::rtil.errors.Notice")
@pytest.mark.parametrize(
    ("name", "side"), [(name, 256 if "256" in name else 32) for name in PRESETS if name not in GENERATING]
)
def test_everything_that_a_preset_names_is_evaluated(name: str, pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And no setting of it is one that its methods do not use."""
    preset = PRESETS[name]
    items = [match for match in map(ITEM.match, dry_run(name, capsys)) if match]
    columns = list(preset.get("variants", preset.get("method")))
    labels = {"mganprior-20" if column == "mganprior" else column for column in columns}
    several = [task for task in preset["task"] if ":" not in task and task not in SINGLE]
    places = len(preset["task"]) - len(several) + sum(len(preset[LEVELS.get(task, "rates")]) for task in several)
    found = {(match["place"], match["column"], match["checkpoint"]) for match in items}
    assert {column for _, column, _ in found} == labels
    assert len(found) == len(items) == places * len(labels) * 2


@pytest.mark.parametrize("name", GENERATING)
def test_everything_that_a_preset_names_is_generated(
    name: str, pair: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = PRESETS[name]
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(preset["classes"])))
    grey = torch.tensor(0.5)
    stand_in = Classifier(network, 32, grey, grey, preset["classes"], "stand-in")
    monkeypatch.setattr("rtil.cli.comparison.open_classifier", lambda source, side: stand_in)
    cells = [line for line in dry_run(name, capsys) if line.endswith("steps)")]
    assert len(cells) == 2 * len(preset["classes"]) * len(preset["radius_scales"])
    assert all(any(f"# {name}: ilo-" in cell for cell in cells) for name in preset["classes"])


def settings_of(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, ILOSettings]:
    """Return the settings of a preset's columns, typed as the command types them."""
    path = Path(__file__).resolve().parents[3] / f"configs/eval/{name}.yaml"
    assert main(["--config", str(path), "--print_config"]) == 0
    table = yaml.safe_load(capsys.readouterr().out)
    flat = {key: table[key] for key in ("variants", "steps", "steps_preset", "selection") if key in table}
    settings = {"ilo": ILOSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in table["ilo"].items()})}
    found = {c.label: c.settings for c in EvalOptions(**flat, settings=settings).candidates()}  # type: ignore[arg-type]
    assert all(isinstance(one, ILOSettings) and one.perceptual == "lpips" for one in found.values())
    return found  # type: ignore[return-value]


def test_the_workshop_papers_loss(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Dean et al. 2020, figure 1: alpha = 1.5, beta = 0.1, the first five noise maps
    (one,) = settings_of("ilo_workshop", capsys).values()
    assert (one.measurement_weight, one.perceptual_weight, one.geodesic_weight) == (1, 1.5, 0.1)
    assert (one.geodesic_of, one.noise, one.sna_sigma) == ("v", "first5", "known")
    assert (one.policy, one.perceptual_mode) == ("always", "fill")


def test_the_losses_of_rtils_super_resolution(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # RTIL, appendix A.3
    found = settings_of("ilo_rtil_sr", capsys)
    rates = {name: one.lr if isinstance(one.lr, float) else one.lr[0] for name, one in found.items()}
    assert {name: (one.perceptual_weight, rates[name]) for name, one in found.items()} == {
        "rtil-a3": (1.0, 0.2),
        "vanilla-a3": (1.5, 0.1),
    }
    assert {one.policy for one in found.values()} == {"paper"}


def test_a_given_setting_without_effect_is_a_mistake(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--images", "2", "--device", "cpu", "--steps", "2", "--dry_run"]
    for argv, words in (
        (["--method", "pulse", "--lr", "0.3", "--start", "mean"], ["lr, start", "pulse.lr", "leave them away"]),
        (["--method", "csgm", "--range_projection", "1"], ["range_projection", "leave it away"]),
        (["--variants", "{pulse: {}}", "--lr", "0.3"], ["'pulse' does not use lr"]),
    ):
        assert main([*small, *argv]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert all(word in err for word in words), err
    assert main([*small, "--method", "ilo,pulse", "--lr", "0.3", "--pulse_lr", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "pulse rtil measurement (8 steps, lr 0.2)" in out
    assert "ilo rtil measurement (2,2,2,2 steps, lr 0.3)" in out
