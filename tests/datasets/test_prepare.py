import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.data import open_dataset
from rtil.data.images import fit, read_image
from rtil.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "datasets" / "prepare.py"
spec = importlib.util.spec_from_file_location("datasets_prepare", SCRIPT)
assert spec is not None
assert spec.loader is not None
module = importlib.util.module_from_spec(spec)
sys.modules["datasets_prepare"] = module  # dataclasses look their module up by name
spec.loader.exec_module(module)
prepare = module.prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "faces"
    random = np.random.default_rng(0)
    for i in range(200):
        path = root / ("left" if i % 2 else "right") / f"{i // 2:03}.{'jpg' if i % 3 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (10, 14, 3), dtype=np.uint8)).save(path)
    return root


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        return {name: archive.read(name) for name in archive.namelist()}


def test_files_are_stored_untouched(folder, tmp_path):
    prepare(str(folder), str(tmp_path / "out.zip"))
    stored = members(tmp_path / "out.zip")
    manifest = json.loads(stored.pop("manifest.json"))
    assert stored == {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    assert manifest["skipped"] == []
    assert len(manifest["images"]) == 200
    for entry in manifest["images"]:
        assert hashlib.sha256(stored[entry["name"]]).hexdigest() == entry["sha256"]
        assert (entry["width"], entry["height"]) == (14, 10)


def test_resized_pictures_equal_what_training_would_read(folder, tmp_path):
    prepare(str(folder), str(tmp_path / "out.zip"), resolution=8)
    before, after = (open_dataset(str(path), 8, "test") for path in (folder, tmp_path / "out.zip"))
    assert [Path(before.key(i)).with_suffix(".png").as_posix() for i in range(200)] == [
        after.key(i) for i in range(200)
    ]
    assert torch.equal(before.load(range(200)), after.load(range(200)))


def test_same_source_same_bytes(folder, tmp_path):
    prepare(str(folder), str(tmp_path / "a.zip"), resolution=8)
    for file in folder.rglob("*.*"):
        os.utime(file, (1, 1))
    prepare(str(folder), str(tmp_path / "b.zip"), resolution=8)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_compressed_zip_is_repacked(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for file in folder.rglob("*.*"):
            out.write(file, file.relative_to(folder))
    prepare(str(tmp_path / "in.zip"), str(tmp_path / "from zip.zip"))
    prepare(str(folder), str(tmp_path / "from folder.zip"))
    assert (tmp_path / "from zip.zip").read_bytes() == (tmp_path / "from folder.zip").read_bytes()


def test_equal_names_do_not_overwrite_each_other(tmp_path):
    source = tmp_path / "in"
    for i, name in enumerate(["a/0.png", "b/0.png", "b/0.bmp"]):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(source / name)
    prepare(str(source), str(tmp_path / "out.zip"), resolution=4)
    stored = members(tmp_path / "out.zip")
    colours = {n: int(read_image(d, n)[0, 0, 0]) for n, d in stored.items() if n != "manifest.json"}
    assert colours == {"a/0.png.png": 0, "b/0.bmp.png": 2, "b/0.png.png": 1}


def test_first_bad_image_stops_and_leaves_no_output(folder, tmp_path):
    (folder / "left" / "000.jpg").write_bytes(b"")
    (tmp_path / "out.zip").write_bytes(b"previous")
    with pytest.raises(UserError, match=r"left/000\.jpg.*empty.*--on_bad_image skip"):
        prepare(str(folder), str(tmp_path / "out.zip"))
    assert (tmp_path / "out.zip").read_bytes() == b"previous"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["faces", "out.zip"]


def test_skipped_images_are_reported(folder, tmp_path, capsys):
    (folder / "left" / "000.jpg").write_bytes(b"hello")
    prepare(str(folder), str(tmp_path / "out.zip"), on_bad_image="skip")
    stored = members(tmp_path / "out.zip")
    assert "left/000.jpg" not in stored
    (skipped,) = json.loads(stored["manifest.json"])["skipped"]
    assert skipped["name"] == "left/000.jpg"
    assert "no image" in skipped["reason"]
    output = capsys.readouterr().out
    assert "left/000.jpg" in output
    assert "199 images, 1 skipped" in output


def test_more_than_one_percent_bad_fails(folder, tmp_path):
    for name in ("001.jpg", "002.jpg", "004.jpg"):
        (folder / "right" / name).write_bytes(b"hello")
    with pytest.raises(UserError, match="3 of 200 images are bad"):
        prepare(str(folder), str(tmp_path / "out.zip"), on_bad_image="skip")
    assert not (tmp_path / "out.zip").exists()


def test_names_that_leave_the_folder_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as out:
        out.writestr("../evil.png", b"x")
    with pytest.raises(UserError, match="unsafe name"):
        prepare(str(tmp_path / "in.zip"), str(tmp_path / "out.zip"))


def test_names_with_a_new_line_are_bad_images(folder, tmp_path):
    (folder / "left" / "000.jpg").rename(folder / "left" / "0\n0.jpg")
    with pytest.raises(UserError, match="rename it") as caught:
        prepare(str(folder), str(tmp_path / "out.zip"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing", "out.zip"], "does not exist"),
        (["faces", "out.tar"], "give the name of a .zip file"),
        (["faces", "out.zip", "--resolution", "0"], "positive"),
        (["faces", "out.zip", "--resolution", "big"], "resolution"),
        (["faces", "out.zip", "--on_bad_image", "ignore"], "on_bad_image"),
        (["faces", "out.zip", "--resolutio", "4"], "resolutio"),
    ],
)
def test_command_line_errors(folder, tmp_path, arguments, reason, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out.zip").exists()


def test_source_is_never_overwritten(folder, tmp_path):
    prepare(str(folder), str(tmp_path / "a.zip"))
    with pytest.raises(UserError, match="also the source"):
        prepare(str(tmp_path / "a.zip"), str(tmp_path / "a.zip"))


def test_command_line(folder, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(SCRIPT), "faces", "new/out.zip", "--resolution", "4"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("new/out.zip: 200 images, 0 skipped")
    assert done.stderr == ""
    image = read_image(members(tmp_path / "new/out.zip")["left/000.png"], "a")
    expected = fit(read_image((folder / "left/000.jpg").read_bytes(), "b"), 4)
    assert torch.equal(image, expected)
