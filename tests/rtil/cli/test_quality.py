import csv

import pytest

from rtil.cli.quality import main
from rtil.data import synthetic_faces
from rtil.quality import measure

VANILLA, RTIL = (f"runs/train/0000{n}-stylegan2-{name}-synthetic-16" for n, name in enumerate(["vanilla", "rtil"]))


@pytest.fixture
def place(workplace, random_backbone, monkeypatch):
    monkeypatch.setattr(measure, "REFERENCE_PICTURES", 100)
    monkeypatch.setitem(synthetic_faces.SIZES, "train", 200)
    return workplace


@pytest.mark.parametrize(("run", "branches"), [(VANILLA, 1), (RTIL, 3)])
def test_every_branch_is_measured_beside_reals_and_the_linear_prior(place, capsys, run, branches):
    assert main(["--snapshot", run, "--samples", "32", "--out", "quality.csv"]) == 0
    with open("quality.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["of"] for row in rows] == [*(f"branch {j}" for j in range(branches)), "reals", "linear"]
    assert float(rows[0]["frechet"]) > float(rows[branches]["frechet"])
    out = capsys.readouterr().out
    assert "32 samples against 100 pictures of synthetic" in out
    assert f"{float(rows[0]['frechet']):10.2f}" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--snapshot", "shipped:best"], "shipped:rtil"),
        (["--snapshot", RTIL, "--samples", "150"], "8 to 100"),
        (["--snapshot", RTIL, "--samples", "32", "--inception", "none.pth"], "none.pth|torch-fidelity"),
        (["--snapshot", RTIL, "--data", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_take_one_line(place, capsys, words, said):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert any(part in error for part in said.split("|"))
