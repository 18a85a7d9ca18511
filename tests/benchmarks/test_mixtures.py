import pytest
import torch

from benchmarks.mixtures import WAYS, loop_over_codes, measure, measure_heads
from rtil.branches import MixtureBranches, mixture_branches
from rtil.generators import PGGANGenerator
from rtil.seeds import generator as seeded


def test_the_loop_makes_the_same_pictures():
    """Else its time would be no reference."""
    G = PGGANGenerator(16, {4: 8, 8: 6, 16: 4}, z_dim=8)
    branches = mixture_branches(True, 16, (1, 5), side=8)
    branch = torch.ones(3, dtype=torch.int64)
    ws = G.mapping(G.draw_z(15, seeded(0, "z")))
    ours = branches.generate(G, ws, [], branch, seeded(0, "w"))
    loop = loop_over_codes(branches, G, ws, [], branch, seeded(0, "w"))
    torch.testing.assert_close(ours, loop, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_measured(way, monkeypatch):
    for name in ("generate", "parts"):  # some ways replace them
        monkeypatch.setattr(MixtureBranches, name, getattr(MixtureBranches, name))
    found = measure(way, side=4, batch=2, steps=1)
    assert found["images_per_s"] > 0
    assert found["peak_mb"] > 100


def test_heads_alone_are_measured():
    assert set(measure_heads(side=4, batch=2, repeats=1)) == {"batched", "loop"}
