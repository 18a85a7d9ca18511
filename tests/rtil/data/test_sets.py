import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rtil.data import open_dataset
from rtil.data.stores import Zip, is_image, is_safe, open_store
from rtil.errors import UserError


def picture(number: int, side: int = 12) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


NAMES = [f"{part}/image {number}.png" for part in ("a", "ä\u202f") for number in range(15)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "my faces"
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(number))
    (root / ".DS_Store").write_bytes(b"x")
    (root / "a" / ".hidden.png").write_bytes(b"x")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "b.png").write_bytes(b"x")
    (root / ".git").mkdir()
    (root / ".git" / "c.png").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    (root / "a" / "loop").symlink_to(root)
    return root


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as out:
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                out.write(file, file.relative_to(folder).as_posix())
    return path


def zip_of(path: Path, members: dict[str, bytes], **options: int) -> str:
    with zipfile.ZipFile(path, "w", **options) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return str(path)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_folder_and_zip_are_the_same_set(folder, archive, split):
    a, b = open_dataset(str(folder), 8, split), open_dataset(str(archive), 8, split)
    assert [a.key(i) for i in range(len(a))] == [b.key(i) for i in range(len(b))]
    assert all(torch.equal(a[i], b[i]) for i in range(len(a)))
    assert a[0].shape == (3, 8, 8)
    assert a[0].dtype == torch.uint8


def test_names_are_sorted_and_hidden_files_ignored(folder):
    assert open_store(folder).names == sorted(NAMES)


def test_short_names(folder, archive):
    assert open_dataset(str(folder), 8, "test").name == "my-faces"
    assert open_dataset(str(archive), 8, "test").name == "faces"


def test_validation_and_train_divide_the_set(folder):
    sets = {split: open_dataset(str(folder), 8, split) for split in ("train", "validation", "test")}
    keys = {split: [ds.key(i) for i in range(len(ds))] for split, ds in sets.items()}
    assert sorted(keys["train"] + keys["validation"]) == keys["test"] == sorted(NAMES)
    assert len(keys["validation"]) == 2  # 5 % of 30


def test_validation_does_not_depend_on_extension_or_other_images(folder, tmp_path):
    before = open_dataset(str(folder), 8, "validation")
    names = {before.key(i) for i in range(len(before))}
    jpg = {name.replace(".png", ".jpg"): picture(0) for name in NAMES}
    after = open_dataset(zip_of(tmp_path / "jpg.zip", jpg), 8, "validation")
    assert {after.key(i).replace(".jpg", ".png") for i in range(len(after))} == names


def test_one_image_is_enough_for_testing_only(tmp_path):
    path = zip_of(tmp_path / "one.zip", {"a.png": picture(0)})
    assert len(open_dataset(path, 8, "test")) == 1
    assert len(open_dataset(path, 8, "validation")) == 1
    with pytest.raises(UserError, match="one image only"):
        open_dataset(path, 8, "train")


@pytest.mark.parametrize("kind", ["missing", "empty folder", "not a zip", "truncated zip", "empty zip", "compressed"])
def test_unusable_data_is_refused_in_one_line(tmp_path, archive, kind):
    path = tmp_path / f"{kind}.zip"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "not a zip":
        path.write_text("hello")
    elif kind == "truncated zip":
        path.write_bytes(archive.read_bytes()[:-200])
    elif kind == "empty zip":
        zip_of(path, {"readme.txt": b""})
    elif kind == "compressed":
        zip_of(path, {"a.png": picture(0)}, compression=zipfile.ZIP_DEFLATED)
    reason = {
        "missing": "does not exist",
        "empty folder": "no images found",
        "not a zip": "not a readable zip",
        "truncated zip": "not a readable zip",
        "empty zip": r"no images found.*\.png \.jpg",
        "compressed": r"repack it: rtil prepare \S+ OUT\.zip$",
    }[kind]
    with pytest.raises(UserError, match=reason) as caught:
        open_dataset(str(path), 8, "test")
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "b/../../a.png", "c\\a.png", "new\nline.png"])
def test_unsafe_member_names_are_refused(tmp_path, name):
    path = zip_of(tmp_path / "a.zip", {name: picture(0)})
    with pytest.raises(UserError, match="unsafe name") as caught:
        open_dataset(path, 8, "test")
    assert "\n" not in str(caught.value)


def test_duplicate_members_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("a.png", picture(0))
        with pytest.warns(UserWarning, match="Duplicate"):
            out.writestr("a.png", picture(1))
    with pytest.raises(UserError, match=r"two members named 'a\.png'"):
        open_dataset(str(path), 8, "test")


def test_damaged_member_is_named(tmp_path):
    path = Path(zip_of(tmp_path / "a.zip", {"a.png": picture(0), "b.png": picture(1)}))
    data = bytearray(path.read_bytes())
    data[data.index(picture(1)) + 60] ^= 255
    path.write_bytes(data)
    ds = open_dataset(str(path), 8, "test")
    assert ds[0].shape == (3, 8, 8)
    with pytest.raises(UserError, match=r"'b\.png'.*CRC"):
        ds[1]


def test_bad_image_is_named(folder):
    (folder / NAMES[3]).write_bytes(b"")
    ds = open_dataset(str(folder), 8, "test")
    index = [ds.key(i) for i in range(len(ds))].index(NAMES[3])
    with pytest.raises(UserError, match=f"my faces: {NAMES[3]}"):
        ds[index]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_named(folder):
    (folder / NAMES[0]).chmod(0)
    with pytest.raises(UserError, match=f"{NAMES[0]}.*Permission"):
        open_dataset(str(folder), 8, "test")[0]


def test_vanished_file_is_named(folder):
    ds = open_dataset(str(folder), 8, "test")
    (folder / ds.key(0)).unlink()
    with pytest.raises(UserError, match="No such file"):
        ds[0]


@pytest.mark.parametrize(
    ("split", "resolution", "reason"), [("tests", 8, "did you mean 'test'"), ("test", 0, "positive")]
)
def test_wrong_arguments(folder, split, resolution, reason):
    with pytest.raises(UserError, match=reason):
        open_dataset(str(folder), resolution, split)


def test_zip_is_read_correctly_by_forked_workers(archive):
    ds = open_dataset(str(archive), 8, "test")
    expected = [ds[i] for i in range(len(ds))]  # the handle is open before the workers start
    loader = DataLoader(ds, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert all(torch.equal(a, b) for a, b in zip(loader, expected, strict=True))


def test_zip_pickles_without_its_handle(archive):
    store = Zip(archive)
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert copy.read(NAMES[0]) == store.read(NAMES[0])


def test_real_faces(shared):
    train, validation = (open_dataset(str(shared / "data/faces-train-64.zip"), 32, s) for s in ("train", "validation"))
    assert (len(train), len(validation)) == (19127, 1000)
    assert train[0].shape == (3, 32, 32)


def test_names_of_members_are_judged_by_their_parts():
    assert is_image("./a.png")
    assert is_image("../a.png")
    assert not is_image("a/./.b/c.png")
    assert not is_safe("a/../b.png")
    assert not is_safe("a\nb.png")
    assert not is_safe("a\udcff.png")
    assert is_safe("\u200d a.png"), "not printable, and harmless"
