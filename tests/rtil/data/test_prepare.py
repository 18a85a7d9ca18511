import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.data import open_dataset
from rtil.data.images import read_image
from rtil.data.prepare import prepare
from rtil.data.stores import open_store
from rtil.errors import RunError


def pack(source: Path, out: Path, **options):
    return prepare(open_store(source, allow_compressed=True), out, **options)


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
    pack(folder, tmp_path / "out.zip")
    stored = members(tmp_path / "out.zip")
    manifest = json.loads(stored.pop("manifest.json"))
    assert stored == {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    assert manifest["skipped"] == []
    assert len(manifest["images"]) == 200
    for entry in manifest["images"]:
        assert hashlib.sha256(stored[entry["name"]]).hexdigest() == entry["sha256"]
        assert (entry["width"], entry["height"]) == (14, 10)


def test_resized_pictures_equal_what_training_would_read(folder, tmp_path):
    pack(folder, tmp_path / "out.zip", resolution=8)
    before, after = (open_dataset(str(path), 8, "test") for path in (folder, tmp_path / "out.zip"))
    assert [Path(before.key(i)).with_suffix(".png").as_posix() for i in range(200)] == [
        after.key(i) for i in range(200)
    ]
    assert torch.equal(before.load(range(200)), after.load(range(200)))


def test_same_source_same_bytes(folder, tmp_path):
    pack(folder, tmp_path / "a.zip", resolution=8)
    for file in folder.rglob("*.*"):
        os.utime(file, (1, 1))
    pack(folder, tmp_path / "b.zip", resolution=8)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_compressed_zip_is_repacked(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for file in folder.rglob("*.*"):
            out.write(file, file.relative_to(folder))
    pack(tmp_path / "in.zip", tmp_path / "from zip.zip")
    pack(folder, tmp_path / "from folder.zip")
    assert (tmp_path / "from zip.zip").read_bytes() == (tmp_path / "from folder.zip").read_bytes()


def test_equal_names_do_not_overwrite_each_other(tmp_path):
    source = tmp_path / "in"
    for i, name in enumerate(["a/0.png", "b/0.png", "b/0.bmp"]):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(source / name)
    pack(source, tmp_path / "out.zip", resolution=4)
    stored = members(tmp_path / "out.zip")
    colours = {n: int(read_image(d, n)[0, 0, 0]) for n, d in stored.items() if n != "manifest.json"}
    assert colours == {"a/0.png.png": 0, "b/0.bmp.png": 2, "b/0.png.png": 1}


def test_first_bad_image_stops_and_leaves_no_output(folder, tmp_path):
    (folder / "left" / "000.jpg").write_bytes(b"")
    (tmp_path / "out.zip").write_bytes(b"previous")
    with pytest.raises(RunError, match=r"left/000\.jpg.*empty.*--on_bad_image skip"):
        pack(folder, tmp_path / "out.zip")
    assert (tmp_path / "out.zip").read_bytes() == b"previous"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["faces", "out.zip"]


def test_skipped_images_are_told(folder, tmp_path):
    (folder / "left" / "000.jpg").write_bytes(b"hello")
    pictures, (skipped,) = pack(folder, tmp_path / "out.zip", skip=True)
    assert len(pictures) == 199
    assert skipped.name == "left/000.jpg"
    assert "no image" in skipped.reason
    stored = members(tmp_path / "out.zip")
    assert "left/000.jpg" not in stored
    assert json.loads(stored["manifest.json"])["skipped"] == [vars(skipped)]


@pytest.mark.parametrize(
    ("bad", "total", "left_out"),
    [(1, 7, True), (1, 2, False), (10, 21, True), (10, 20, False), (11, 30, False), (20, 2000, True)],
)
def test_some_bad_pictures_of_a_small_set_may_be_left_out(bad, total, left_out, tmp_path):
    good = io.BytesIO()
    Image.new("RGB", (1, 1)).save(good, "BMP")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for i in range(total):
            archive.writestr(f"{i:04}.bmp", b"hello" if i < bad else good.getvalue())
    if left_out:
        assert len(pack(tmp_path / "in.zip", tmp_path / "out.zip", skip=True)[1]) == bad
    else:
        with pytest.raises(RunError, match=rf"{bad} of {total} images are bad: at most 10 or 1%.*0000\.bmp"):
            pack(tmp_path / "in.zip", tmp_path / "out.zip", skip=True)
        assert not (tmp_path / "out.zip").exists()


def test_names_that_leave_the_folder_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as out:
        out.writestr("../evil.png", b"x")
    with pytest.raises(RunError, match="unsafe name"):
        pack(tmp_path / "in.zip", tmp_path / "out.zip")


def test_names_with_a_new_line_are_bad_images(folder, tmp_path):
    (folder / "left" / "000.jpg").rename(folder / "left" / "0\n0.jpg")
    with pytest.raises(RunError, match="rename it") as caught:
        pack(folder, tmp_path / "out.zip")
    assert "\n" not in str(caught.value)
