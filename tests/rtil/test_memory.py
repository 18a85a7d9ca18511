from pathlib import Path

import numpy as np
import pytest
import torch

from rtil import memory
from rtil.memory import host_memory, is_out_of_memory


def words_of(call) -> BaseException:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    "call",
    [lambda: torch.empty(2**50, dtype=torch.uint8), lambda: np.empty(2**50, np.uint8), lambda: bytes(2**50)],
    ids=["torch", "numpy", "python"],
)
def test_what_allocators_say_is_understood(call) -> None:
    assert is_out_of_memory(words_of(call))


def test_other_errors_are_others() -> None:
    assert not is_out_of_memory(words_of(lambda: torch.zeros(2) @ torch.zeros(3)))
    assert not is_out_of_memory(KeyError("DefaultCPUAllocator"))


def put(root: Path, **files: str) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("listed", "files", "limit"),
    [
        ("0::/job/step\n", {"job/memory.max": "2000000\n", "job/step/memory.max": "max\n"}, 2_000_000),
        ("0::/job/step\n", {"job/memory.max": "2000000\n", "job/step/memory.max": "1000000\n"}, 1_000_000),
        ("0::/of/the/host\n", {"memory.max": "3000000\n"}, 3_000_000),  # a container's own root
        ("4:memory:/x\n1:cpu:/y\n0::/\n", {"memory/x/memory.limit_in_bytes": "4000000\n"}, 4_000_000),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_the_lowest_limit_of_the_control_groups_counts(
    listed: str, files: dict[str, str], limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "none")
    whole = host_memory()
    put(tmp_path, own=listed, **files)
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "own")
    assert host_memory() == (whole if limit is None else limit)
    assert whole > 2**30
