import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import rtil
from rtil.errors import RunError
from rtil.files import atomic_path, write_text, writing

DISK_OF_10_KB = """
import resource
from pathlib import Path
import torch
from safetensors.torch import save_file
from rtil.errors import RunError
from rtil.files import atomic_path, write_text
from rtil.training.checkpoint import AtomicCheckpointIO

def save(path):
    with atomic_path(path) as temporary:
        save_file(state, temporary)

state = {"a": torch.zeros(9000)}
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
io = AtomicCheckpointIO()
for write in (lambda path: write_text(path, "x" * 20_000), save, lambda path: io.save_checkpoint(state, path)):
    try:
        write(Path("x.bin"))
    except RunError as error:
        print(error)
"""


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


def test_a_full_disk_is_told_of_whoever_writes(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(rtil.__file__).parents[1])}
    command = [sys.executable, "-c", DISK_OF_10_KB]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    text, tensors, checkpoint = done.stdout.splitlines()
    assert text == "x.bin cannot be written (File too large): mend that, or name another place"
    assert tensors.startswith("x.bin cannot be written (")
    assert "File too large" in tensors
    assert checkpoint == text
    assert not os.listdir(tmp_path)


def test_a_bug_while_writing_stays_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bug") as caught, writing(tmp_path):
        raise ValueError("bug")
    assert not isinstance(caught.value, RunError)
