import hashlib
import json

import pytest
import torch

from rtil.errors import UserError
from rtil.pretrained import FOLDER, NAMES, SCHEME, path_of
from rtil.snapshot import load_snapshot

CARD = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_prior_opens_by_name_and_is_the_one_on_its_card(name):
    snapshot = load_snapshot(SCHEME + name)
    assert hashlib.sha256(snapshot.path.read_bytes()).hexdigest() == CARD[name]["sha256"]
    assert snapshot.weight_hash == CARD[name]["weight_hash"]
    assert snapshot.path.stat().st_size <= 4e6
    assert snapshot.info["rtil"] == (name == "rtil")
    assert {weight.dtype for weight in snapshot.generator.parameters()} == {torch.float32}


def test_the_pair_differs_in_rtil_alone():
    infos = [load_snapshot(SCHEME + name).info for name in NAMES]
    assert {key for key in infos[0] if infos[0][key] != infos[1][key]} == {"rtil"}
    assert CARD["settings"].items() <= infos[0].items()


def test_every_branch_is_far_closer_to_faces_than_the_linear_prior():
    for name in NAMES:
        branches = [values["frechet"] for of, values in CARD[name].items() if of.startswith("branch")]
        assert len(branches) == (4 if name == "rtil" else 1)
        assert max(branches) < CARD["linear prior"]["frechet"] / 2


def test_other_names_are_refused_and_paths_left_alone(tmp_path):
    assert path_of(tmp_path) == tmp_path
    assert path_of("runs/mine").as_posix() == "runs/mine"
    with pytest.raises(UserError, match="shipped:vanilla, shipped:rtil"):
        path_of("shipped:best")
