from collections.abc import Sequence

import pytest
import torch

from rtil.errors import UserError
from rtil.evaluation.batches import Batches

CPU = torch.device("cpu")


@pytest.mark.parametrize(("resolution", "size"), [(16, 64), (64, 64), (128, 16), (256, 4), (512, 1), (1024, 1)])
def test_the_size_is_chosen_by_the_pixels(resolution: int, size: int) -> None:
    assert Batches(None, resolution, CPU).size == size
    assert Batches(5, resolution, CPU).size == 5


def test_a_size_of_none_at_a_time_is_refused() -> None:
    with pytest.raises(UserError, match="batch is 0: valid is a whole number of 1 or more"):
        Batches(0, 64, CPU)


def test_a_full_memory_halves_what_comes(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[list[int]] = []

    def only_two_fit(items: Sequence[int]) -> int:
        tried.append(list(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError
        return sum(items)

    batches = Batches(5, 64, CPU)
    done = list(batches.over([1, 2, 3, 4, 5], only_two_fit))
    assert done == [([1, 2], 3), ([3, 4], 7), ([5], 5)]
    assert tried == [[1, 2, 3, 4, 5], [1, 2], [3, 4], [5]]
    assert [record.getMessage() for record in caplog.records] == [
        "memory is full with 5 pictures at a time: going on with 2 (see --batch)"
    ]
    assert len(list(batches.over(range(4), only_two_fit))) == 2, "what was learnt is kept"


def test_what_failed_is_let_go_of_before_its_memory_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large:
        alive = 0

        def __init__(self) -> None:
            Large.alive += 1

        def __del__(self) -> None:
            Large.alive -= 1

    def work(items: Sequence[int]) -> int:
        held = Large()
        if len(items) > 1:
            raise torch.OutOfMemoryError
        return held.alive

    emptied: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(Large.alive))
    assert [alive for _, alive in Batches(4, 64, CPU).over(range(3), work)] == [1, 1, 1]
    assert emptied == [0]


def test_one_that_does_not_fit_is_said() -> None:
    def nothing_fits(items: Sequence[int]) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="cpu has not enough memory for one picture of 64 px"):
        list(Batches(2, 64, CPU).over(range(3), nothing_fits))


def test_other_errors_are_not_held_back() -> None:
    def fails(items: Sequence[int]) -> None:
        raise KeyError(items)

    with pytest.raises(KeyError):
        list(Batches(2, 64, CPU).over(range(3), fails))
