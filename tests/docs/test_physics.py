"""deepinv's whole catalogue in our solvers, found by introspection, and the table of it."""

import importlib

import pytest
import torch

from docs.physics import CATALOGUE, PAGE, page, physics_classes
from ilo import CSGM, ILO
from rtil.generators.stylegan2 import StyleGAN2Generator

physics = pytest.importorskip("deepinv.physics")
SIDE = 16


@pytest.fixture
def generator():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleGAN2Generator(SIDE, {4: 4, 8: 4, 16: 4}, z_dim=8, w_dim=8, mapping_layers=1)


def test_every_class_is_there():
    assert physics_classes(physics) == sorted(CATALOGUE)


def test_what_does_not_run_has_a_reason():
    assert all(entry.note for entry in CATALOGUE.values() if entry.build is None)


def test_the_page_has_this_table():
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "python -m docs.physics writes it anew"


@pytest.mark.filterwarnings("ignore::UserWarning")  # theirs, on composing and on default filters
@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.build is not None])
def test_ilo_and_csgm_learn_from_it(name, generator):
    entry = CATALOGUE[name]
    if entry.needs is not None:
        try:
            importlib.import_module(entry.needs)
        except ImportError:
            pytest.skip(f"{name} needs the package {entry.needs}")
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of masks and matrices, and their noise
        made = entry.operator(physics, SIDE)
        y = made(torch.rand(entry.pictures, 3, SIDE, SIDE))
    for solver in (
        ILO(generator, steps=(3, 2), lr=0.3, geodesic_weight=0),
        CSGM(generator, steps=3, lr=0.3, geodesic_weight=0),
    ):
        found = solver.invert(y, made)
        assert found.status == ["ok"] * entry.pictures
        assert (found.score < found.history["measurement"][:, 0]).all()
