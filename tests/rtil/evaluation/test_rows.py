import json
import math
import os
import random
import re
import subprocess
import sys
import tracemalloc

import pytest

from rtil.errors import RunError
from rtil.evaluation.rows import Row, RowFile, read_rows, row_to_json, row_to_line, settings_hash


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
    assert rows[0].key not in file
    file.extend(rows[:1])
    assert [r.key in file for r in rows] == [True, False, False]
    file.extend(rows[1:])
    again = RowFile(path)
    assert [repr(r) for r in again.rows()] == [repr(r) for r in rows]
    assert all(r.key in again for r in rows)
    assert row("z").key not in again


def test_lines_are_valid_json_whatever_the_numbers(path):
    RowFile(path).extend([row(psnr=math.inf, lpips=math.nan, measurement_error=-math.inf)])

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
    file.extend([row("b")])
    assert [r.image for r in RowFile(path).rows()] == ["a", "b"]


def test_rows_of_older_versions_are_read(path):
    path.write_text(
        '{"image": "a.png", "method": "ilo", "task": "cs", "level": 0.1, "checkpoint": "vanilla", "seed": 0, '
        '"settings": "s", "psnr": 20.5, "ssim": 0.7, "lpips": null, "seconds": 1.5, "status": "ok", '
        '"selection": "last", "psnr_oracle": 21.0, "psnr_round": [20.5], "measurement_error": 0.1, "rate": 0.1}\n'
    )
    (got,) = RowFile(path).rows()
    assert (got.psnr, got.selection, got.arch, got.rtil, got.trained_otherwise) == (20.5, "last", "", False, False)
    assert (got.converged, got.scores) == (None, {})
    assert math.isnan(got.kimg)


def test_older_name_of_a_field_is_read(path):
    line = json.dumps(row_to_json(row(trained_otherwise=True)))
    path.write_text(line.replace("trained_otherwise", "mixes_differently") + "\n")
    assert RowFile(path).rows() == [row(trained_otherwise=True)]


def test_scores_come_back_and_are_not_written_when_there_are_none(path):
    scores = {"probability_after": 0.5, "top_after": "goldfish", "rms_change": math.inf, "unknown": math.nan}
    made = Row("generated-0", "ilo-r1", "classifier", "goldfish", "rtil", 0, "s", seconds=1.5, scores=scores)
    RowFile(path).extend([row(), made])
    without, with_scores = map(json.loads, path.read_text().splitlines())
    assert "scores" not in without
    assert with_scores["scores"] == {
        "probability_after": 0.5, "top_after": "goldfish", "rms_change": "inf", "unknown": None}  # fmt: skip
    assert with_scores["psnr"] is None
    assert repr(RowFile(path).rows()) == repr([row(), made])


def test_asking_for_a_key_costs_the_same_however_many_rows_there_are(path):
    RowFile(path).extend([row(str(number)) for number in range(4000)])
    file = RowFile(path)
    tracemalloc.start()
    assert row("3999").key in file
    assert row("4000").key not in file
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000, "bytes: no copy of the keys is made"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b"{}", "KeyError: 'image'"),
        (b"[3]", "TypeError: a row is a table, not list"),
        (b"{", "JSONDecodeError"),
        (b"\xff\xfe{", "UnicodeDecodeError"),
        (b"[" * 100_000, "RecursionError"),
        (b"", "JSONDecodeError"),
        (b'{"psnr": NaN}', "ValueError: NaN is not JSON"),
        (json.dumps(row_to_json(row("b")) | {"image": ["b"]}).encode(), r"TypeError: image is \['b'\]"),
        (json.dumps(row_to_json(row("b")) | {"psnr": "20"}).encode(), "TypeError: '20' is not a number"),
        (json.dumps(row_to_json(row("b")) | {"psnr": 10**400}).encode(), "OverflowError"),
        (json.dumps(row_to_json(row("b")) | {"seed": True}).encode(), "TypeError: seed is True"),
        (json.dumps(row_to_json(row("b")) | {"psnr_round": "20"}).encode(), "TypeError: psnr_round"),
        (row_to_line(row("b")).replace("20.5", "20.6").strip().encode(), "its check sum is another one"),
    ],
)
def test_a_damaged_line_costs_its_own_row(path, damage, reason, caplog):
    good = [row_to_line(row(image)).encode() for image in "acd"]
    path.write_bytes(good[0] + damage + b"\n" + good[1] + good[2])
    before = path.read_bytes()
    assert [r.image for r in read_rows(path).rows] == ["a", "c", "d"]
    assert path.read_bytes() == before, "whoever only reads changes nothing"
    file = RowFile(path)
    assert [r.image for r in file.rows()] == ["a", "c", "d"]
    assert re.search(f"rows do not count: 1 .*line 2, .*{reason}", caplog.text)
    assert (path.parent / "rows.damaged").read_bytes() == damage + b"\n"
    file.extend([row("b")])
    caplog.clear()
    assert [r.image for r in RowFile(path).rows()] == ["a", "c", "d", "b"]
    assert not caplog.text


def test_every_flipped_byte_costs_at_most_the_rows_that_it_touches(path):
    rows = [row(f"{number}.png", psnr=20 + number / 7, psnr_round=(18.5, 19.25)) for number in range(8)]
    RowFile(path).extend(rows)
    whole, flips = path.read_bytes(), random.Random(0)  # noqa: S311
    for _ in range(200):
        data, place = bytearray(whole), flips.randrange(len(whole))
        data[place] ^= 1 << flips.randrange(8)
        path.write_bytes(data)
        found = {repr(r) for r in read_rows(path).rows}
        assert found <= {repr(r) for r in rows}, "a row that is read is what was written"
        assert len(found) >= len(rows) - (2 if whole[place] == 0x0A else 1)


def test_rows_beside_count_and_are_not_written(path):
    other = path.with_name("rows-2-of-3.jsonl")
    RowFile(other).extend([row("b"), row("a", psnr=3.0)])
    with other.open("ab") as file:
        file.write(b'{"image"')  # its owner is writing
    before = other.read_bytes()
    RowFile(path).extend([row("a")])
    file = RowFile(path, beside=[other])
    assert [(r.image, r.psnr) for r in file.rows()] == [("a", 20.5), ("b", 20.5)]
    assert row("b").key in file
    assert other.read_bytes() == before


def test_what_is_not_finite_is_named():
    fine = row(psnr=math.inf, lpips=math.nan, psnr_oracle=math.nan, psnr_round=(math.inf,), measurement_error=0.0)
    assert fine.not_finite == []
    assert row(psnr=math.nan, ssim=math.inf, psnr_round=(1.0, -math.inf)).not_finite == [
        "psnr", "ssim", "measurement_error", "psnr_round 2"]  # fmt: skip
    scores = {"probability_after": math.nan, "top_after": "goldfish", "rms_change": 0.1}
    assert row(psnr=math.nan, scores=scores).not_finite == ["probability_after"]


def test_key_is_written_once(path):
    file = RowFile(path)
    file.extend([row()])
    for repeated in ([row(psnr=1.0)], [row("b"), row("b")]):
        with pytest.raises(ValueError, match="distinct keys"):
            file.extend(repeated)
    for other in ({"seed": 1}, {"settings": "t"}, {"level": 0.2}, {"checkpoint": "rtil"}):
        file.extend([row(**other)])
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
    file.extend([row("a")])

    def full(descriptor):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"rows\.jsonl cannot be written \(no space"):
            file.extend([row("b")])
    file.extend([row("c")])
    assert [r.image for r in RowFile(path).rows()] == ["a", "c"]


def test_settings_hash_tells_settings_apart():
    assert settings_hash({"lr": 0.1}) != settings_hash({"lr": 0.2})
