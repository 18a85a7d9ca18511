import threading
import time
from pathlib import Path

import pytest

from rtil import budget
from rtil.budget import Share, check_memory
from rtil.errors import UserError


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_limits_of_control_groups_count_at_every_level(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    write(proc / "self", cgroup="3:cpu,memory:/a/b\n0::/job/step\n")
    write(groups / "job/step", memory__max="max", memory__current="5")
    write(groups / "job", memory__max="1000", memory__current="400", memory__stat="anon 1\ninactive_file 100\n")
    write(groups / "memory/a/b", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="7")
    write(groups / "memory", memory__limit_in_bytes="900", memory__usage_in_bytes="300")
    assert sorted(budget._left_in_groups(proc, groups)) == [600, 700]


def test_what_does_not_fit_is_told_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_bytes", lambda: 10 * 10**9)
    check_memory(8 * 10**9, "it", "less")
    with pytest.raises(UserError, match=r"it would take about 8\.1 GB of memory but 10\.0 GB are free: less"):
        check_memory(81 * 10**8, "it", "less")
    monkeypatch.setattr(budget, "available_bytes", lambda: None)
    check_memory(10**18, "it", "less")


def test_threads_never_take_more_than_the_share() -> None:
    share, most = Share(10), []

    def work(needed: int) -> None:
        with share.taking(needed):
            most.append(share.taken)
            time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(needed,)) for needed in (6, 6, 3, 40, 1, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 6
    assert max(most) <= 10
    assert share.taken == 0
