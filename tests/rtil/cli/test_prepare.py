import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from rtil.cli.prepare import main
from rtil.data.images import fit, read_image

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def faces(tmp_path, make_pictures, monkeypatch):
    """A current folder with seven pictures in ``faces``."""
    make_pictures(tmp_path / "faces", 7, 10)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "faces"


@pytest.mark.parametrize("words", [["faces", "new/out.zip"], ["--out", "new/out.zip", "faces"]])
def test_pictures_are_packed(words, faces, capsys):
    assert main([*words, "--resolution", "4"]) == 0
    assert capsys.readouterr().out.startswith("new/out.zip: 7 images, 0 skipped")
    with zipfile.ZipFile("new/out.zip") as archive:
        stored, about = archive.read("0.png"), json.loads(archive.read("manifest.json"))
    assert torch.equal(read_image(stored, "a"), fit(read_image((faces / "0.png").read_bytes(), "b"), 4))
    assert about["resolution"] == 4


def test_what_was_left_out_is_told(faces, capsys):
    (faces / "3.png").write_bytes(b"hello")
    assert main(["faces", "out.zip"]) == 2
    assert "--on_bad_image skip" in capsys.readouterr().err
    assert main(["faces", "out.zip", "--on_bad_image", "skip"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("skipped '3.png': cannot read image")
    assert last.startswith("out.zip: 6 images, 1 skipped")


def test_dry_run_writes_nothing(faces, capsys):
    assert main(["faces", "out.zip", "--dry_run"]) == 0
    assert capsys.readouterr().out.endswith("# pack 7 pictures of faces as they are into out.zip\n")
    assert not Path("out.zip").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "SOURCE is needed: rtil prepare SOURCE OUT"),
        (["faces"], "OUT is needed"),
        (["faces", "out.zip", "more"], "unexpected argument 'more'"),
        (["missing", "out.zip"], "does not exist"),
        (["faces", "out.tar"], "give the name of a .zip file"),
        (["faces", "out.zip", "--resolution", "0"], "positive"),
        (["faces", "out.zip", "--resolution", "big"], "resolution"),
        (["faces", "out.zip", "--on_bad_image", "ignore"], "on_bad_image"),
        (["faces", "out.zip", "--resolutio", "4"], "did you mean '--resolution'"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(words, reason, faces, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1
    assert not Path("out.zip").exists()


def test_the_source_is_never_overwritten(faces, capsys):
    assert main(["faces", "a.zip"]) == 0
    before = Path("a.zip").read_bytes()
    assert main(["a.zip", "a.zip"]) == 2
    assert "is also the source" in capsys.readouterr().err
    assert Path("a.zip").read_bytes() == before


def test_the_script_of_a_checkout_is_the_same_command(faces, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = str(ROOT / "datasets" / "prepare.py")
    done = subprocess.run([sys.executable, script, "faces", "out.zip"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("out.zip: 7 images")
