import csv
import json
import math

import pytest
import torch
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.convergence import Watch, mean_squared_error, with_median_seconds
from benchmarks.convergence_report import Curve, Point, summary
from ilo import ILO
from rtil.evaluation.study import Place, heldout_pictures
from rtil.generators import StyleGAN2Generator
from rtil.snapshot import load_snapshot, save_snapshot


@pytest.fixture
def snapshot(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = StyleGAN2Generator(8, {4: 6, 8: 4}, z_dim=8, w_dim=8, mapping_layers=1)
    info = {"arch": "stylegan2", "data": "synthetic", "resolution": 8, "kimg": 1.0, "seed": 0, "rtil": False}
    save_snapshot(tmp_path / "run" / "snapshot-000001.safetensors", G, info)
    return tmp_path / "run"


def run(snapshot, tmp_path, make_pictures, *words):
    pictures = tmp_path / "pictures"
    if not pictures.exists():
        make_pictures(pictures, 4, 8)
    words = [
        "--checkpoints",
        f"vanilla={snapshot}",
        "--data",
        str(pictures),
        "--images",
        "3",
        "--device",
        "cpu",
        *words,
    ]
    return main(["convergence", *words, "--ilo_steps", "4,3", "--csgm_steps", "5,8", "--every", "3"])


def test_curves_chart_and_record(snapshot, tmp_path, make_pictures, results, capsys):
    out = tmp_path / "out"
    assert run(snapshot, tmp_path, make_pictures, "--out", str(out), "--repeats", "3", "--record") == 0
    assert "vanilla, ilo 2 x 4" in capsys.readouterr().out

    with (out / "convergence.csv").open() as file:
        rows = list(csv.DictReader(file))
    of = {}
    for row in rows:
        of.setdefault((row["run"], row["returned"]), []).append(row)
    assert [int(r["step"]) for r in of["csgm 8", "0"]] == [0, 3, 6, 8]
    assert [(int(r["round"]), int(r["step"])) for r in of["ilo 2 x 4", "0"]] == [
        (0, 0), (0, 3), (0, 4), (1, 4), (1, 7), (1, 8)
    ]  # fmt: skip
    assert [int(r["step"]) for r in of["ilo 2 x 4", "1"]] == [4, 8]
    for points in of.values():
        seconds = [float(r["seconds"]) for r in points]
        assert seconds == sorted(seconds)
        assert seconds[0] > 0

    with Image.open(out / "convergence.png") as chart:
        assert chart.format == "PNG"
        assert min(chart.size) > 400

    row = json.loads((results / "convergence.jsonl").read_text())
    assert str(tmp_path) not in json.dumps(row)
    assert row["figures"]["checkpoints"]["vanilla"]["arch"] == "stylegan2"
    runs = {r["run"]: r for r in row["figures"]["runs"]}
    assert list(runs) == ["csgm 5", "csgm 8", "ilo 1 x 4", "ilo 2 x 4", "ilo 1 x 3", "ilo 2 x 3"]

    # against the solver without this benchmark around it
    G = load_snapshot(snapshot, torch.device("cpu")).generator
    pictures = heldout_pictures(str(tmp_path / "pictures"), 8, "test", 3)
    truth = pictures.images.float() / 255
    operator = Place("cs", 0.1, {"rate": 0.1}).operator(8, 0)
    found = ILO(G, (4, 4)).invert(operator(truth, pictures.keys), operator, pictures.keys)
    for count, x in enumerate(found.rounds, start=1):
        mse = mean_squared_error(x, truth)
        assert runs[f"ilo {count} x 4"]["mse"] == pytest.approx(mse, rel=1e-3)
        assert runs[f"ilo {count} x 4"]["psnr_of_mse"] == pytest.approx(-10 * math.log10(mse), abs=0.01)


def test_curves_are_not_overwritten(snapshot, tmp_path, make_pictures, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "convergence.csv").write_text("mine")
    assert run(snapshot, tmp_path, make_pictures, "--out", str(out)) == 2
    assert "give another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--rounds", "3"], "allows 2"), (["--rounds", "0"], "rounds is 0"), (["--rate", "2"], "rate")],
)
def test_mistakes_leave_no_folder(snapshot, tmp_path, make_pictures, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert run(snapshot, tmp_path, make_pictures, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_checkpoints_are_needed(capsys):
    assert main(["convergence"]) == 2
    assert "--checkpoints name=PATH" in capsys.readouterr().err


def test_looking_is_not_counted(monkeypatch):
    now = iter([0.0, 1.0, 51.0, 53.0, 60.0])  # start; look 1 from 1 to 51; look 2 from 53 to 60
    monkeypatch.setattr("benchmarks.convergence.time.perf_counter", lambda: next(now))
    operator = Place("cs", 0.5, {"rate": 0.5}).operator(8, 0)
    truth = torch.zeros(2, 3, 8, 8)
    watch = Watch(truth, operator, operator(truth), [2], every=2)
    for step in range(3):
        watch(0, step, torch.full_like(truth, 0.5))
    assert watch.points == [Point(0, 0, 1.0, 0.25), Point(0, 2, 3.0, 0.25)]


def test_when_a_run_reaches_the_reference():
    csgm = Curve("a", "csgm", (8,), [Point(0, 8, 4.0, 0.2)], [Point(0, 8, 4.0, 0.2)])
    points = [Point(0, 4, 1.0, 0.5), Point(1, 4, 1.1, 0.3), Point(1, 6, 1.5, 0.19), Point(1, 8, 2.0, 0.1)]
    ilo = Curve("a", "ilo", (4, 4), points, [Point(0, 4, 1.0, 0.4), Point(1, 8, 2.0, 0.1)])
    first, one, two = summary([csgm, ilo])
    assert (first["run"], first["seconds_to_csgm"]) == ("csgm 8", 4.0)
    assert (one["run"], one["seconds_to_csgm"], one["csgm_seconds"]) == ("ilo 1 x 4", None, 4.0)
    assert (two["run"], two["seconds_to_csgm"], two["steps_to_csgm"]) == ("ilo 2 x 4", 1.5, 6)


def test_seconds_of_repeats_are_their_median():
    repeats = [[Point(0, 0, s, 0.5), Point(0, 1, 2 * s, 0.4)] for s in (1.0, 9.0, 2.0)]
    assert with_median_seconds(repeats) == [Point(0, 0, 2.0, 0.5), Point(0, 1, 4.0, 0.4)]
