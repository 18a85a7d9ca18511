import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rtil.errors import RunError
from rtil.files import HOST, atomic_path, drop_leftovers, write_text, writing
from rtil.pictures import save_png
from rtil.training.checkpoint import AtomicCheckpointIO

if sys.platform != "win32":
    import resource


def write_with_10_kb(folder: str, told: Any) -> None:
    """Write in five ways where files may have 10 kB, and tell what is said of each."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    state, io = {"a": torch.zeros(9000)}, AtomicCheckpointIO()

    def save(path: Path) -> None:
        with atomic_path(path) as temporary:
            save_file(state, temporary)

    ways: list[Callable[[Path], None]] = [
        lambda path: write_text(path, "x" * 20_000),
        save,
        lambda path: save_png(torch.rand(3, 99, 99), path),
        lambda path: io.save_checkpoint(state, path),
    ]
    for write in ways:
        try:
            write(Path(folder) / "x.bin")
            told.put("written")
        except RunError as error:
            told.put(str(error))


def leave_a_part(path: Path) -> None:
    path.write_text("part")
    raise KeyError("bug")


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        leave_a_part(temporary)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are those of POSIX")
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_what_the_umask_leaves_whoever_writes(umask: int, expected: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "x.safetensors") as temporary:
            save_file({"x": torch.zeros(1)}, temporary)
        write_text(tmp_path / "x.txt", "text")
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == expected, path


@pytest.mark.parametrize("place", ["file/x.txt", "file/folder/x.txt"])
def test_a_file_in_the_way_is_named_in_one_line(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=rf"{place} cannot be written \(a file is in the way\)"):
        write_text(tmp_path / place, "text")


@pytest.mark.skipif(sys.platform == "win32", reason="a process' limits are those of POSIX")
def test_a_file_that_may_not_grow_is_told_of_whoever_writes(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    told = fork.Queue()
    process = fork.Process(target=write_with_10_kb, args=(str(tmp_path), told))
    process.start()
    lines = [told.get(timeout=60) for _ in range(4)]
    process.join()
    assert lines == 4 * [f"{tmp_path}/x.bin cannot be written (File too large): mend that, or name another place"]
    assert not os.listdir(tmp_path)


def test_a_bug_while_writing_stays_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bug") as caught, writing(tmp_path):
        raise ValueError("bug")
    assert not isinstance(caught.value, RunError)


def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    dead, other, mine = (tmp_path / f".x.txt.tmp-{name}.txt" for name in (f"{HOST}-{2**22 + 1}", "0-7", f"{HOST}-1"))
    for path in (dead, other, mine):
        path.touch()
    write_text(tmp_path / "x.txt", "text")
    assert not dead.exists()
    assert other.exists(), "of another machine, where it may still be written"
    assert mine.exists(), "of a process that runs"


def test_an_owned_folder_is_cleaned_of_parts_alone(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in (".lock", ".owner", "a.txt", "b/c.png", "b/.hidden")]
    parts = [tmp_path / name for name in (".a.txt.tmp-0-7.txt", "b/.c.png.tmp-1-8.png", ".tmpMT51AO")]
    (tmp_path / "b").mkdir()
    for path in kept + parts:
        path.touch()
    drop_leftovers(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
