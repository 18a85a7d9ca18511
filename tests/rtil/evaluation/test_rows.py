import json
import math
import os
import subprocess
import sys

import pytest

from rtil.errors import UserError
from rtil.evaluation.rows import Row, RowFile, settings_hash


def row(image="a.png", **changes):
    values = {"method": "ilo", "task": "cs", "level": 0.1, "checkpoint": "vanilla", "seed": 0, "settings": "s",
              "psnr": 20.5, "ssim": 0.7, "lpips": 0.2, "seconds": 1.5}  # fmt: skip
    return Row(image, **(values | changes))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows.jsonl"


def test_rows_come_back_as_written(path):
    rows = [
        row("a"),
        row("ü\u2028b", psnr_round=(18.0, math.inf, 20.1), status="diverged", level=None, converged=False),
        row("c", task="inpaint", level="mask-1", selection="heldout", psnr_oracle=22.0, converged=True),
    ]
    file = RowFile(path)
    assert file.finished_keys() == frozenset()
    file.append(rows[0])
    file.extend(rows[1:])
    again = RowFile(path)
    assert [repr(r) for r in again.rows()] == [repr(r) for r in rows]
    assert again.finished_keys() == file.finished_keys() == {r.key for r in rows}


def test_lines_are_valid_json_whatever_the_numbers(path):
    RowFile(path).append(row(psnr=math.inf, lpips=math.nan, measurement_error=-math.inf))

    def refuse(constant):
        raise AssertionError(constant)

    values = json.loads(path.read_text(), parse_constant=refuse)
    assert (values["psnr"], values["lpips"], values["measurement_error"]) == ("inf", None, "-inf")
    assert values["rate"] == values["level"] == 0.1
    got = RowFile(path).rows()[0]
    assert got.psnr == math.inf
    assert math.isnan(got.lpips)
    assert math.isnan(got.psnr_oracle)


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_line_cut_short_is_dropped_and_the_next_row_is_whole(path, cut, caplog):
    RowFile(path).extend([row("a"), row("b")])
    os.truncate(path, path.stat().st_size - cut)
    file = RowFile(path)
    assert [r.image for r in file.rows()] == ["a"]
    assert "dropped a last line" in caplog.text
    file.append(row("b"))
    assert [r.image for r in RowFile(path).rows()] == ["a", "b"]


def test_rows_of_older_versions_are_read(path):
    path.write_text(
        '{"image": "a.png", "method": "ilo", "task": "cs", "level": 0.1, "checkpoint": "vanilla", "seed": 0, '
        '"settings": "s", "psnr": 20.5, "ssim": 0.7, "lpips": null, "seconds": 1.5, "status": "ok", '
        '"selection": "last", "psnr_oracle": 21.0, "psnr_round": [20.5], "measurement_error": 0.1, "rate": 0.1}\n'
    )
    (got,) = RowFile(path).rows()
    assert (got.psnr, got.selection, got.arch, got.rtil, got.mixes_differently) == (20.5, "last", "", False, False)
    assert got.converged is None
    assert math.isnan(got.kimg)


def test_damage_elsewhere_is_an_error_that_names_the_line(path):
    RowFile(path).extend([row("a"), row("b")])
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(UserError, match=r"rows.jsonl line 1 is not a row \(KeyError: 'image'\)"):
        RowFile(path)


def test_key_is_written_once(path):
    file = RowFile(path)
    file.append(row())
    for repeated in ([row(psnr=1.0)], [row("b"), row("b")]):
        with pytest.raises(ValueError, match="distinct keys"):
            file.extend(repeated)
    for other in ({"seed": 1}, {"settings": "t"}, {"level": 0.2}, {"checkpoint": "rtil"}):
        file.append(row(**other))
    assert len(RowFile(path).rows()) == 5


def test_batch_is_on_disk_when_the_process_is_killed(path):
    code = (
        "import os, sys, signal; sys.path.insert(0, sys.argv[2]); from test_rows import row; "
        "from rtil.evaluation.rows import RowFile; "
        "RowFile(sys.argv[1]).extend([row('a'), row('b')]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), os.path.dirname(__file__)], check=False)
    assert done.returncode == -9
    assert [r.image for r in RowFile(path).rows()] == ["a", "b"]


def test_failed_write_leaves_no_half_line(path, monkeypatch):
    file = RowFile(path)
    file.append(row("a"))

    def full(descriptor):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            file.append(row("b"))
    file.append(row("c"))
    assert [r.image for r in RowFile(path).rows()] == ["a", "c"]


def test_settings_hash_tells_settings_apart():
    assert settings_hash({"lr": 0.1}) != settings_hash({"lr": 0.2})
