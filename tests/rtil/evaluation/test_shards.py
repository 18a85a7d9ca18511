from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtil.errors import UserError
from rtil.evaluation.candidates import LINEAR
from rtil.evaluation.shards import Shard, parts, row_files, share


class Named(NamedTuple):
    method: str
    number: int


def _jobs(methods: list[str]) -> list[Named]:
    return [Named(method, number) for number, method in enumerate(methods)]


@pytest.mark.parametrize(
    "text", ["", "2", "0/3", "4/3", "-1/3", "1/0", "1/3/5", "a/b", "1.0/3", "1/1000001", "\u0661/3"]
)
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="valid is i/n, 1/n to n/n"):
        Shard.parse(text)


@given(
    methods=st.lists(st.sampled_from(["ilo", "csgm", LINEAR]), max_size=12),
    pictures=st.integers(1, 20),
    size=st.integers(1, 20),
    of=st.integers(1, 9),
)
def test_every_picture_of_every_job_has_one_shard(methods: list[str], pictures: int, size: int, of: int) -> None:
    whole = parts(_jobs(methods), pictures, size)
    assert [(job.number, i) for job, indices in whole for i in indices] == [
        (number, i) for number in range(len(methods)) for i in range(pictures)
    ]
    assert all(len(indices) <= size for _, indices in whole)
    shares = [share(whole, Shard(number, of)) for number in range(1, of + 1)]
    assert sorted((job.number, indices[0]) for own in shares for job, indices in own) == [
        (job.number, indices[0]) for job, indices in whole
    ]
    for method in ("ilo", "csgm"):
        for full in (True, False):
            counts = [
                sum((job.method, len(indices) == size) == (method, full) for job, indices in own) for own in shares
            ]
            assert max(counts) - min(counts) <= 1, "each has its share of what is slow"
    assert sum(any(job.method == LINEAR for job, _ in own) for own in shares) <= 1
    assert all(own == [part for part in whole if part in own] for own in shares)
    assert share(whole, None) == whole


@given(i=st.integers(1, 5), n=st.integers(5, 7), count=st.integers(1, 4))
def test_processes_of_a_shard_share_it(i: int, n: int, count: int) -> None:
    whole = parts(_jobs(["ilo", "csgm"]), 40, 1)
    own = [share(whole, Shard(i, n).part(number, count)) for number in range(1, count + 1)]
    every = [share(whole, Shard(j, n).part(k, count)) for j in range(1, n + 1) for k in range(1, count + 1)]
    assert sum(map(len, every)) == len(whole)
    assert all(some in every for some in own)


def test_files_of_rows_are_found_by_their_names(tmp_path: Path) -> None:
    names = ["rows.jsonl", "rows-1-of-2.jsonl", "rows-2-of-2.jsonl", "rows-10-of-12.jsonl", "rows-2-of-12.jsonl"]
    for name in [*names, "rows.damaged", "rows.foreign", "rows-old.jsonl", ".rows.jsonl.tmp-12.jsonl"]:
        (tmp_path / name).touch()
    assert [path.name for path in row_files(tmp_path)] == [*names[:3], names[4], names[3]]
    assert Shard.of_file(tmp_path / names[3]) == Shard.parse("10/12")
    assert Shard.parse("10/12").file == names[3]
