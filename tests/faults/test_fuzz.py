"""The counting itself: every way for a door to fail is seen and named, and a sound door is not accused."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from rtil.errors import UserError
from tests.faults.fuzz import Counts, damaged, fuzz


@pytest.fixture
def sound(tmp_path: Path) -> list[Path]:
    (tmp_path / "a.json").write_text('{"a": 1, "b": [2, 3]}')
    return [tmp_path / "a.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "damaged").mkdir()
    return tmp_path / "damaged"


def refuse(path: Path) -> None:
    raise UserError(f"{path} is not\nreadable")


def crash(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(path: Path) -> None:
    time.sleep(30)


def swallow(path: Path) -> None:
    bytearray(1 << 40)


def fill(path: Path) -> None:
    bytearray(64 << 20)


def ramble(path: Path) -> None:
    raise UserError("word " * 1000)


def test_refusals_and_acceptances_are_counted(sound: list[Path], folder: Path) -> None:
    found = fuzz(refuse, sound, folder, tries=5)
    assert (found.tried, found.refused, found.accepted) == (5, 5, 0)
    assert list(found.reasons) == ["/a.json is not readable"]
    assert fuzz(Path.read_bytes, sound, folder, tries=5).accepted == 5


@pytest.mark.parametrize(
    ("door", "words"), [(crash, "-11"), (hang, "over 0.2 s"), (swallow, "MemoryError"), (ramble, "word word")]
)
def test_what_escapes_is_named_and_the_rest_goes_on(door, words: str, sound: list[Path], folder: Path) -> None:
    found = fuzz(door, sound, folder, tries=3, seconds=0.2)
    assert found.tried == 3
    assert [words in line and "trial" in line for line in found.escaped] == [True] * 3


def test_memory_and_time_are_measured(sound: list[Path], folder: Path) -> None:
    assert 60 < fuzz(fill, sound, folder, tries=1).peak_mb < 200
    assert fuzz(lambda path: time.sleep(0.1), sound, folder, tries=1).slowest > 0.09


def test_a_trial_is_the_same_damage_each_time_and_mostly_another_than_its_neighbour(
    sound: list[Path], folder: Path
) -> None:
    seen: list[list[str]] = []

    def tell(path: Path) -> None:
        raise UserError(path.read_bytes().hex()[:900])

    for _ in range(2):
        found: Counts = fuzz(tell, sound, folder, tries=30)
        seen.append(sorted(found.reasons.elements()))
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 20


def test_damage_changes_the_content() -> None:

    content = bytes(range(256)) * 20
    changed = [damaged(content, random.Random(n), is_text=True)[1] != content for n in range(200)]  # noqa: S311
    assert sum(changed) > 190
