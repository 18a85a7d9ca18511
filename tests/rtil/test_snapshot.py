import json

import pytest
import torch
from safetensors.torch import save_file

from rtil.errors import UserError
from rtil.generators import StyleGAN2Generator
from rtil.seeds import generator as seeded
from rtil.snapshot import load_snapshot, save_snapshot


@pytest.fixture
def g():
    return StyleGAN2Generator(16, {4: 6, 8: 5, 16: 4}, z_dim=8, w_dim=8, mapping_layers=1)


def test_round_trip_gives_the_same_pictures(g, tmp_path):
    save_snapshot(tmp_path / "snapshot-000001.safetensors", g, {"kimg": 1, "rtil": True})
    snapshot = load_snapshot(tmp_path)
    rng = seeded(0, "test")
    ws, noise = g.mapping(g.draw_z(2, rng)), g.draw_noise(2, rng)
    assert torch.equal(snapshot.generator(ws, noise), g(ws, noise))
    assert snapshot.info == {"kimg": 1, "rtil": True}
    assert not any(p.requires_grad for p in snapshot.generator.parameters())


def test_hash_names_the_weights(g, tmp_path):
    path = tmp_path / "a.safetensors"
    save_snapshot(path, g, {})
    first = load_snapshot(path).weight_hash
    with torch.no_grad():
        g.blocks[0].const[0, 0, 0] += 1
    save_snapshot(path, g, {"note": "other"})
    assert load_snapshot(path).weight_hash != first


def test_weights_that_are_not_finite_are_not_written(g, tmp_path):
    with torch.no_grad():
        g.blocks[0].const[0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"blocks\.0\.const"):
        save_snapshot(tmp_path / "a.safetensors", g, {})
    assert list(tmp_path.iterdir()) == []


def metadata(g, **changes):
    return {"format": "rtil-snapshot-1", "arch": "stylegan2", "config": json.dumps(g.config), "info": "{}"} | changes


@pytest.mark.parametrize(
    ("change", "match"),
    [({"arch": "stylegan3"}, "did you mean 'stylegan2'"), ({"format": "rtil-snapshot-9"}, "this version reads")],
)
def test_foreign_metadata(g, tmp_path, change, match):
    save_file(g.state_dict(), tmp_path / "a.safetensors", metadata(g, **change))
    with pytest.raises(UserError, match=match):
        load_snapshot(tmp_path / "a.safetensors")


def test_missing_weight_is_named(g, tmp_path):
    state = {k: v for k, v in g.state_dict().items() if k != "blocks.0.const"}
    save_file(state, tmp_path / "a.safetensors", metadata(g))
    with pytest.raises(UserError, match=r"1 weights .*blocks\.0\.const"):
        load_snapshot(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [b"", b"no snapshot at all"])
def test_not_a_snapshot(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="not a readable snapshot"):
        load_snapshot(tmp_path / "a.safetensors")


def test_empty_run_folder_and_missing_path(tmp_path):
    with pytest.raises(UserError, match="no snapshot in"):
        load_snapshot(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        load_snapshot(tmp_path / "nowhere.safetensors")
