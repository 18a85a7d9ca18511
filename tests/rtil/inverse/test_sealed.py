import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from rtil.errors import UserError
from rtil.inverse.sealed import Kind, load_sealed, save_sealed

A, B = Kind("apple", 1, "give an apple"), Kind("berry", 3, "give a berry")
TENSORS = {
    "x": torch.arange(6.0).view(2, 3),
    "mask": torch.tensor([True, False]),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "scalar": torch.tensor(1.5),
    "none": torch.empty(0, 3),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    about = {"names": ["ä", 1, None], "nested": {"a": 0.1}}
    save_sealed(tmp_path / "f", A, about, TENSORS)
    kind, told, tensors = load_sealed(tmp_path / "f", A)
    assert (kind, told) == (A, about)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    with safe_open(tmp_path / "f", framework="pt") as file:
        assert json.loads(file.metadata()["about"]) == about


def test_one_of_several_kinds_may_be_read(tmp_path: Path) -> None:
    save_sealed(tmp_path / "b", B, {}, TENSORS)
    assert load_sealed(tmp_path / "b", A, B)[0] == B
    with pytest.raises(UserError, match=r"is no apple \(format 'rtil-berry-3'\): give an apple"):
        load_sealed(tmp_path / "b", A)
    with pytest.raises(UserError, match=r"reads 'rtil-berry-4': update rtil"):
        load_sealed(tmp_path / "b", Kind("berry", 4, ""))


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    save_sealed(path, A, {"names": ["a", "b"]}, TENSORS)
    whole = path.read_bytes()
    draw = torch.Generator().manual_seed(0)
    for place in torch.randperm(len(whole), generator=draw)[:80].tolist():
        content = bytearray(whole)
        content[place] ^= 1 << int(torch.randint(8, (), generator=draw))
        path.write_bytes(content)
        try:
            _, about, tensors = load_sealed(path, A)
        except UserError:
            continue
        assert about == {"names": ["a", "b"]}, "spaces around the header's JSON, for instance, tell nothing"
        assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
