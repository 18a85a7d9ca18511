import pytest
import torch

from rtil.errors import Notice
from rtil.kept import kept, key_of


@pytest.mark.parametrize("damage", ["a bit", "cut short", "no checksum"])
def test_what_is_kept_is_made_once_and_again_where_it_is_damaged(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return {"a": torch.arange(4.0)}

    def get():
        return kept("thing", key_of(["x", 1]), {"a": (4,)}, make)["a"].tolist()

    assert get() == get() == [0, 1, 2, 3]
    assert made == [1]
    (path,) = tmp_path.glob("thing-*.safetensors")
    whole = path.read_bytes()
    other = {"a bit": whole[:-1] + bytes([whole[-1] ^ 1]), "cut short": whole[:-3]}
    path.write_bytes(other.get(damage, whole.replace(b"rtil_sha256", b"rtil_sha255")))
    with pytest.warns(Notice, match="is damaged"):
        assert get() == [0, 1, 2, 3]
    assert made == [1, 1]
    assert path.read_bytes() == whole
