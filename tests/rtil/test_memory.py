import numpy as np
import pytest
import torch

from rtil import memory
from rtil.memory import free_on, is_out_of_memory


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


def test_a_share_of_what_is_available_is_planned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, planned in ((1000, 800), (None, None)):
        monkeypatch.setattr(memory, "available_bytes", lambda available=available: available)
        assert free_on(torch.device("cpu")) == planned
