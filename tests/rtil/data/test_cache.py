import io
import os
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from rtil.data import open_dataset, preload
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.errors import UserError
from rtil.files import cache_folder


def bitmap(image: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, "BMP")
    return buffer.getvalue()


class FewFaces(SyntheticFaces):
    """Faces that count how often they are rendered."""

    calls = 0

    def __len__(self) -> int:
        return 70

    def load(self, indices):
        FewFaces.calls += 1
        return super().load(indices)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    FewFaces.calls = 0
    return tmp_path / "cache"


def test_cache_folder_follows_the_environment(cache):
    assert cache_folder() == cache


def test_preload_equals_the_pictures_and_renders_once():
    ds = FewFaces(8, "train")
    first, calls = preload(ds), FewFaces.calls
    second = preload(ds)
    assert FewFaces.calls == calls
    assert torch.equal(first, ds.load(range(70)))
    assert torch.equal(second, first)


def test_only_complete_files_remain(cache):
    preload(FewFaces(8, "train"))
    assert [file.suffix for file in cache.iterdir()] == [".npy"]


@pytest.mark.parametrize("other", [FewFaces(8, "train", 1), FewFaces(8, "test"), FewFaces(9, "train")])
def test_other_sets_have_other_files(cache, other):
    preload(FewFaces(8, "train"))
    assert torch.equal(preload(other), other.load(range(70)))
    assert len(list(cache.iterdir())) == 2


def test_writing_to_the_result_leaves_the_cache_alone():
    ds = FewFaces(8, "train")
    preload(ds)
    preload(ds).zero_()
    assert preload(ds).any()


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"text"])
def test_damaged_cache_is_rebuilt(cache, damage):
    ds = FewFaces(8, "train")
    expected = preload(ds)
    (file,) = cache.iterdir()
    file.write_bytes(damage)
    assert torch.equal(preload(ds), expected)
    assert file.stat().st_size > 70 * 3 * 64


def test_unusable_cache_folder_warns(cache):
    cache.write_text("a file, not a folder")
    ds = FewFaces(8, "train")
    with pytest.warns(UserWarning, match="not cached"):
        assert torch.equal(preload(ds), ds.load(range(70)))


def test_changed_files_are_read_again(tmp_path):
    def pack(seed: int) -> str:
        path = tmp_path / "faces.zip"
        with zipfile.ZipFile(path, "w") as out:
            for i, image in enumerate(SyntheticFaces(8, "train", seed).load(range(3))):
                out.writestr(f"{i}.bmp", bitmap(image))
        os.utime(path, ns=(seed, seed))
        return str(path)

    first = preload(open_dataset(pack(0), 8, "test")).clone()
    second = preload(open_dataset(pack(1), 8, "test"))
    assert torch.equal(second, SyntheticFaces(8, "train", 1).load(range(3)))
    assert not torch.equal(first, second)


def test_bad_image_stops_preloading(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bad.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"bad\.png"):
        preload(open_dataset(str(tmp_path / "images"), 8, "test"))
