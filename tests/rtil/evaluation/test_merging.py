from pathlib import Path

from rtil.evaluation.conditions import conditions
from rtil.evaluation.jobs import Job
from rtil.evaluation.merging import join, tell
from rtil.evaluation.rows import Row, RowFile, RowKey
from rtil.evaluation.shards import parts

IMAGES = ["a.png", "b.png", "c.png", "d.png"]
CONTENT = ["hash-a", "hash-b", "hash-c", ""]
SETTINGS = {"solvers": {"one": {}, "two": {}, "earlier": {}}, "identity": {"weights": {"rtil": "w", "vanilla": "w"}}}


def _jobs() -> list[Job]:
    (cs,) = conditions(["cs"], [0.1], [], [])
    keys = {name: [RowKey(image, name, "cs", 0.1, "rtil", 0, of) for image in IMAGES] for name, of in METHODS.items()}
    return [Job(cs, name, "rtil", {}, own) for name, own in keys.items()]


METHODS = {"ilo": "one", "csgm": "two"}


def _row(image: str, method: str = "ilo", psnr: float = 20.0, **changes: object) -> Row:
    place = {"task": "cs", "level": 0.1, "checkpoint": "rtil", "seed": 0, "settings": METHODS[method]}
    return Row(image, method, **(place | {"psnr": psnr, "seconds": 1.0} | changes))  # type: ignore[arg-type]


def _files(folder: Path, *contents: list[Row]) -> list[Path]:
    paths = [folder / f"rows-{number}-of-{len(contents)}.jsonl" for number in range(1, len(contents) + 1)]
    for path, rows in zip(paths, contents, strict=True):
        path.write_text("")
        for row in rows:
            RowFile(path.with_suffix(".one")).extend([row])
            path.write_bytes(path.read_bytes() + path.with_suffix(".one").read_bytes())
            path.with_suffix(".one").unlink()
    return paths


def test_rows_stand_as_one_process_would_have_written_them(tmp_path: Path) -> None:
    files = _files(
        tmp_path,
        [_row("d.png", "csgm"), _row("b.png", "csgm"), _row("a.png"), _row("c.png")],
        [_row("c.png", "csgm"), _row("b.png"), _row("d.png"), _row("a.png", "csgm")],
    )
    joined = join(files, _jobs(), SETTINGS, CONTENT)
    assert [row.key for row in joined.rows] == [key for job in _jobs() for key in job.keys]
    assert (joined.missing, joined.double, joined.foreign) == ([], [], [])
    assert not list(tell(joined, parts(_jobs(), 4, 2), files))


def test_what_is_missing_is_told_with_the_shards_that_lack_it(tmp_path: Path) -> None:
    jobs = _jobs()
    files = _files(tmp_path, [_row("a.png"), _row("b.png"), _row("a.png", "csgm"), _row("b.png", "csgm")], [], [])
    joined = join(files, jobs, SETTINGS, CONTENT)
    assert [key.image for key in joined.missing] == ["c.png", "d.png"] * 2
    assert list(tell(joined, parts(jobs, 4, 2), files)) == [
        "missing: 4 of 8 rows",
        "  cs 0.1, ilo rtil: 'c.png', 'd.png'",
        "  cs 0.1, csgm rtil: 'c.png', 'd.png'",
        "  to go on with: --shard 1/3, --shard 2/3",
    ]


def test_double_rows_are_told_and_those_with_other_numbers_named(tmp_path: Path) -> None:
    nan = float("nan")
    files = _files(
        tmp_path,
        [_row("a.png", psnr=20.0), _row("b.png", psnr=nan), _row("a.png", psnr=20.25)],
        [_row("b.png", psnr=nan, seconds=9.0), _row("a.png", psnr=20.0)],
    )
    joined = join(files, _jobs(), SETTINGS, CONTENT)
    assert [(row.image, str(row.psnr)) for row in joined.rows] == [("a.png", "20.0"), ("b.png", "nan")]
    assert [(kept.psnr, other.psnr) for kept, other in joined.contradicting] == [(20.0, 20.25)]
    lines = list(tell(joined, parts(_jobs(), 4, 2), files))
    assert "double: 3 rows are there twice, the first of each is kept" in lines
    assert "  with other numbers: 'a.png' of cs 0.1, ilo rtil, 20.0000 and 20.2500 dB" in lines


def test_foreign_rows_are_left_out_and_told(tmp_path: Path) -> None:
    foreign = [
        _row("a.png", settings="other"),
        _row("a.png", checkpoint="stranger"),
        _row("b.png", picture="hash-of-another"),
    ]
    ours = [
        _row("c.png", picture="hash-c"),
        _row("d.png", picture="anything"),
        _row("e.png", "csgm"),
        _row("a.png", settings="earlier"),
    ]
    files = _files(tmp_path, [*foreign, *ours])
    joined = join(files, _jobs(), SETTINGS, CONTENT)
    assert joined.foreign == foreign
    assert [row.image for row in joined.rows] == ["c.png", "d.png", "e.png", "a.png"], "jobs of before stay, behind"
    lines = list(tell(joined, parts(_jobs(), 4, 2), files))
    assert "foreign: 3 rows of other settings, weights or pictures are left out" in lines
    assert "  cs 0.1, ilo stranger: 'a.png'" in lines


def test_a_damaged_line_costs_its_row(tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    (path,) = _files(tmp_path, [_row("a.png"), _row("b.png")])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"a.png", b"a.pn\xff", 1) + b'{"image": "c')
    joined = join([path], _jobs(), SETTINGS, CONTENT)
    assert [row.image for row in joined.rows] == ["b.png"]
    assert "rows-1-of-1.jsonl: damaged lines, whose rows do not count: 1 (first: line 1, Unicode" in caplog.text
