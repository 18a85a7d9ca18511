"""Several processes, or several turns of one, train what one process does in one turn: gloo, 16 px, tiny networks.

In float64, where no rounding can hide a mistake; benchmarks/ranks.py shows what float32 makes of it.
"""

import time

import pytest
import torch

from benchmarks.ranks_members import Members, worst_difference
from rtil.discriminators.stylegan2 import group_of_sample
from rtil.errors import UserError
from rtil.training.config import config_of
from rtil.training.ranks import Ranks, rows_of_rank

STEPS = 3
STYLEGAN2 = {"w_dim": 16, "mapping_layers": 2, "batch": 8, "path_weight": 2.0, "path_interval": 2, "r1_interval": 2}
STYLEGAN2 |= {"style_mixing": 0.9}
PGGAN = {"arch": "pggan", "batches": {4: 8, 8: 8, 16: 8}, "stages": {4: 0.008, 8: 0.008, 16: 0.016}, "kimg": 0.032}
MIXTURE = {"branches": "mixture", "codes": [1, 3]}
ADDITIVE = {"branches": "additive"}
COMBINATIONS = {
    "stylegan2": STYLEGAN2 | {"rtil": False},
    "stylegan2-additive": STYLEGAN2,
    "stylegan2-additive-all": STYLEGAN2 | {"estimator": "all"},
    "stylegan2-mixture": STYLEGAN2 | MIXTURE,
    "stylegan2-mixture-all": STYLEGAN2 | MIXTURE | {"estimator": "all"},
    "pggan": PGGAN | {"rtil": False, "fade_reals": True},
    "pggan-additive": PGGAN | ADDITIVE,
    "pggan-mixture": PGGAN | MIXTURE,
    "pggan-mixture-all": PGGAN | MIXTURE | {"estimator": "all"},
}


def settings(combination, **changes):
    networks = {"resolution": 16, "channels": {4: 8, 8: 8, 16: 8}, "z_dim": 16, "rtil": True, "precision": "float32"}
    return networks | COMBINATIONS[combination] | changes


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    with Members(1, tmp_path_factory.mktemp("one")) as members:
        yield members


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    with Members(2, tmp_path_factory.mktemp("two")) as members:
        yield members


def trained(members, folder, given):
    folder.mkdir()
    members.call("train", given, [STEPS], str(folder), torch.float64)
    return torch.load(folder / f"{STEPS}.pt")


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_two_processes_equal_one(combination, one, two, tmp_path):
    """Over regularisers, three stages of growth and running means; every tensor, Adam's too."""
    a, b = (trained(m, tmp_path / str(len(m.workers)), settings(combination)) for m in (one, two))
    difference, name = worst_difference(a, b)
    assert difference < 1e-8, name


def test_the_comparison_sees_another_seed(one, tmp_path):
    a, b = (trained(one, tmp_path / str(seed), settings("stylegan2", seed=seed)) for seed in (0, 1))
    assert worst_difference(a, b)[0] > 0.1


@pytest.mark.parametrize("combination", ["stylegan2-additive-all", "stylegan2-mixture"])
def test_turns_equal_the_whole_batch(combination, one, two, tmp_path):
    whole = trained(one, tmp_path / "whole", settings(combination, batch=16))
    for members, turns in ((one, 2), (two, 2)):
        taken = trained(
            members, tmp_path / f"{len(members.workers)}", settings(combination, batch=16, accumulate=turns)
        )
        difference, name = worst_difference(whole, taken)
        assert difference < 1e-8, name


def test_none_waits_for_ever(two):
    started = time.monotonic()
    told, _ = two.call("wait_alone", 2.0)
    assert told.startswith("a process of this training ended or does not answer (")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("n", [6, 8, 24, 32])
@pytest.mark.parametrize("shares", [1, 2])
def test_rows_keep_groups_whole_and_in_place(n, shares):
    """Of the local batch D's own rule makes the same groups."""
    parts = [rows_of_rank(n, rank, shares, groups=group_of_sample, accumulate=1) for rank in range(shares)]
    assert sorted(row for rows in parts for row in rows) == list(range(n))
    of_all = group_of_sample(n)
    for rows in parts:
        assert rows == sorted(rows)
        same_here = group_of_sample(len(rows))[:, None] == group_of_sample(len(rows))
        assert torch.equal(same_here, of_all[rows][:, None] == of_all[rows])


def test_turns_are_further_shares():
    turns = Ranks(1, 2, accumulate=2).rows(group_of_sample(16))
    assert [rows.tolist() for rows in turns] == [[2, 6, 10, 14], [3, 7, 11, 15]]
    assert Ranks().rows(group_of_sample(16)) == [None]


@pytest.mark.parametrize(
    ("combination", "changes", "processes", "message"),
    [
        ("stylegan2", {}, 3, "batch 8 has 2 groups of 4 that D compares, which 3 devices or turns cannot share evenly"),
        ("stylegan2", {"accumulate": 2}, 2, "use a multiple of 16"),
        ("stylegan2", {"batch": 24, "path_batch_shrink": 5}, 2, None),
        ("stylegan2", {"batch": 24, "path_batch_shrink": 8}, 2, "path length step of batch 24 .* has 3 pictures"),
        ("stylegan2", {"batch": 24, "path_batch_shrink": 8, "path_weight": 0}, 2, None),
        ("pggan", {"batches": {4: 8, 8: 6, 16: 8}}, 4, "batch 6 at 8 px has 6 pictures.*--batches to multiples of 4"),
        ("pggan", {}, 8, None),
    ],
)
def test_batches_that_cannot_be_shared_evenly_are_refused(combination, changes, processes, message):
    config = config_of(
        settings(combination, stages=None, **changes) if combination == "pggan" else settings(combination, **changes)
    )
    if message is None:
        config.check_processes(processes)
        return
    with pytest.raises(UserError, match=message) as caught:
        config.check_processes(processes)
    assert "\n" not in str(caught.value)


def test_pggan_takes_its_batch_in_one_turn():
    with pytest.raises(UserError, match="accumulate 2 is not valid: use 1 with pggan"):
        config_of(settings("pggan", accumulate=2))
