import numpy as np
import pytest
from PIL import Image

from rtil.theory import __main__ as command
from rtil.theory.chart import Series, draw_chart


def test_prints_its_tables_and_writes_its_figures(tmp_path, monkeypatch, capsys):
    for name, value in {"SAMPLES": 500, "DRAWS": 5, "RESOLUTION": 8, "PAIRS": 2, "OPERATORS": 3}.items():
        monkeypatch.setattr(command, name, value)
    assert command.main(["--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| rtil | zero |" in printed
    assert "differences of faces, n = 192" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"theory_linear.png", "theory_distances.png"}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "SAMPLES", 500)
    monkeypatch.setattr(command, "DRAWS", 5)
    (tmp_path / "file").write_text("")
    assert command.main(["--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("value", [1.0, 10.0, 100.0])
def test_a_value_is_drawn_at_its_height_on_the_logarithmic_axis(tmp_path, value):
    draw_chart(tmp_path / "a.png", [Series("a", [1, 10], [value, value], "#ff0000")], "", [1, 10], [1, 10, 100])
    red = (np.array(Image.open(tmp_path / "a.png")) == [255, 0, 0]).all(2)[:360, 300]
    top, bottom = 30, 350
    expected = bottom - (bottom - top) * np.log10(value) / 2
    assert abs(np.flatnonzero(red).mean() - expected) <= 1
