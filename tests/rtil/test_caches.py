import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rtil.caches import made_once


def test_one_of_several_makes_it_and_the_others_find_it(tmp_path: Path) -> None:
    path, made = tmp_path / "cache/fit.bin", []

    def look_or_make(number: int) -> str:
        with made_once(path):
            if not path.exists():
                made.append(number)
                time.sleep(0.02)
                path.write_text("made")
        return path.read_text()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(look_or_make, range(8))) == ["made"] * 8
    assert len(made) == 1


def test_where_there_can_be_no_lock_each_makes_its_own(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    with made_once(tmp_path / "cache/fit.bin"):
        pass
