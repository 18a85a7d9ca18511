"""What reconstruct tells of the course of an inversion: its history, its steps, and whether it converged."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ilo import ILO
from rtil.cli.reconstruct import ReconstructOptions, main
from rtil.cli.render import main as render
from rtil.data import open_dataset
from rtil.inverse.operators import make_operator
from rtil.inverse.registry import method_names
from rtil.inverse.result_file import load_result
from rtil.snapshot import load_snapshot

RUN = "runs/train/00001-stylegan2-rtil-synthetic-16"
SMALL = ["--snapshot", RUN, "--device", "cpu", "--precision", "float32", "--input", "y.npy"]


@pytest.fixture(autouse=True)
def x(workplace: Path) -> torch.Tensor:
    """Two pictures [2, 3, 16, 16] in [0, 1], also as y.npy."""
    faces = open_dataset("synthetic", 16, "test")
    pictures = torch.stack([faces[n] for n in range(2)]).float() / 255
    np.save("y.npy", pictures.numpy())
    return pictures


def _images(out: str) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = json.loads(Path(out, "result.json").read_text())["images"]
    return images


def _history(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_history_is_that_of_the_solver(x: torch.Tensor) -> None:
    assert main([*SMALL, "--steps", "3,0,2", "--out", "o", "--seed", "4"]) == 0
    lines = _history("o/history.csv")
    operator = make_operator("inversion", (3, 16, 16))
    solver = ILO(load_snapshot(RUN).generator, steps=(3, 0, 2), seed=4, precision="float32")
    history = solver.invert(x, operator).history
    for n in range(2):
        here = [line for line in lines if line["image"] == str(n)]
        assert [line["round"] + line["step"] for line in here] == ["00", "01", "02", "20", "21"]
        for name in ("measurement", "geodesic", "loss"):
            assert [float(line[name]) for line in here] == pytest.approx(history[name][n].tolist(), rel=1e-6)
    assert main([*SMALL, "--steps", "0", "--out", "start", "--seed", "4"]) == 0
    assert _history("start/history.csv") == []


def test_frames_of_a_sequence_have_a_history_each() -> None:
    assert main([*SMALL, "--sequence", "--steps", "3", "--frame_steps", "0,0,2", "--out", "o"]) == 0
    first, second = (_history(f"o/history-00{n}.csv") for n in range(2))
    assert [line["round"] for line in first] == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    assert [line["round"] for line in second] == ["2"] * 2
    assert {(line["input"], line["image"]) for line in [*first, *second]} == {("y.npy[0]", "0"), ("y.npy[1]", "1")}
    assert sorted(p.name for p in Path("o").glob("history*")) == ["history-000.csv", "history-001.csv"]


def test_projections_to_the_range_are_told_apart_from_rounds() -> None:
    argv = ["--steps", "3,2", "--range_projection", "2", "--range_steps", "4", "--out", "o"]
    assert main([*SMALL, *argv]) == 0
    lines = [line for line in _history("o/history.csv") if line["image"] == "1"]
    told = [line["round"] for line in lines]
    assert told == ["0"] * 3 + ["1"] * 2 + ["2"] * 2 + ["3"] * 2 + ["range"] * 8
    for line in lines:
        assert (line["loss"] == "") == (line["range"] != "") == (line["round"] == "range")


def test_steps_of_a_plateau_rule_are_told_for_each_picture(capsys: pytest.CaptureFixture[str]) -> None:
    rule = ["--switch", "plateau", "--switch_window", "3", "--switch_threshold", "0.15", "--lr", "0.05"]
    assert main([*SMALL, *rule, "--steps", "40,0,25", "--out", "o"]) == 0
    lines, told = _history("o/history.csv"), capsys.readouterr().out.splitlines()
    steps = [image["steps_per_round"] for image in _images("o")]
    for n in range(2):
        moved = [
            sum(line["moving"] == "1" for line in lines if (line["image"], line["round"]) == (str(n), k)) for k in "012"
        ]
        assert steps[n] == moved
        assert told[n].endswith(f", {moved[0]} + 0 + {moved[2]} steps")
    assert 3 <= min(steps[0][0], steps[1][0]) < 40
    assert steps[0] != steps[1]
    assert main([*SMALL, "--steps", "2", "--out", "fixed"]) == 0
    assert "steps_per_round" not in _images("fixed")[0]
    assert "steps" not in capsys.readouterr().out


def test_pulse_tells_what_converged(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*SMALL, "--method", "pulse", "--steps", "2"]
    assert main([*argv, "--out", "o"]) == 0
    assert [image["converged"] for image in _images("o")] == [False, False]
    errors = load_result("o/result.safetensors").score
    capsys.readouterr()
    assert main([*argv, "--pulse_eps", str(errors.mean().item() / 4), "--out", "p"]) == 0
    expected = (errors < errors.mean()).tolist()
    assert [image["converged"] for image in _images("p")] == expected
    words = ["converged" if flag else "not converged" for flag in expected]
    assert [line.rsplit(", ", 1)[1] for line in capsys.readouterr().out.splitlines()] == words
    assert render(["--result", "p/result.safetensors", "--snapshot", RUN, "--out", "again", "--device", "cpu"]) == 0
    assert [line.rsplit(", ", 1)[1] for line in capsys.readouterr().out.splitlines()] == words
    assert main([*SMALL, "--method", "csgm", "--steps", "2", "--out", "c"]) == 0
    assert "converged" not in _images("c")[0]
    assert "converged" not in capsys.readouterr().out


@pytest.mark.parametrize("inner", ["ilo", "csgm"])
def test_sparse_deviations_are_rendered_again(inner: str) -> None:
    few = ["--sparse_alternations", "2", "--sparse_latent_steps", "3", "--sparse_steps", "5", "--sparse_inner", inner]
    assert main([*SMALL, "--method", "sparse", "--steps", "2", *few, "--out", "o"]) == 0
    latents = load_result("o/result.safetensors").latents
    assert (latents["nu"].abs().flatten(2).sum(2) > 0).all()
    assert render(["--result", "o/result.safetensors", "--snapshot", RUN, "--out", "p", "--device", "cpu"]) == 0
    for n in range(2):
        name = f"reconstruction-00{n}.png"
        assert Path("p", name).read_bytes() == Path("o", name).read_bytes()
    assert _history("o/history.csv")


def test_the_help_names_every_method() -> None:
    described = re.search(r"^ +method: (.*)$", ReconstructOptions.__doc__ or "", re.MULTILINE)
    assert described is not None
    assert set(method_names()) <= set(re.findall(r"\w+", described[1]))
