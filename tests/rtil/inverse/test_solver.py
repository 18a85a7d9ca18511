"""What all solvers do with settings, checkpoints and the operators of other libraries."""

import types
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ilo import CSGM, ILO, PULSE, Langevin, SparseDeviation
from ilo.settings import CSGMSettings, ILOSettings, PULSESettings
from mganprior import MGANPrior
from mganprior.settings import MGANPriorSettings
from rtil.errors import UserError
from rtil.generators.pggan import PGGANGenerator
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse import latent_space
from rtil.inverse.operators import make_operator
from rtil.inverse.solver import Solver

SIZE = (3, 16, 16)
SOLVERS = [ILO, CSGM, PULSE, Langevin, SparseDeviation, MGANPrior]


@pytest.fixture(autouse=True)
def _surroundings(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtil.devices.cpu_multiplies_bfloat16", lambda: False)


@pytest.fixture
def generator() -> StyleGAN2Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleGAN2Generator(16, {4: 4, 8: 4, 16: 4}, z_dim=8, w_dim=8, mapping_layers=2)


@pytest.fixture
def y() -> Tensor:
    return torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))


def quick(solver: type[Solver], generator: StyleGAN2Generator, **options) -> Solver:
    if solver is SparseDeviation:
        own = {"before": ILOSettings(steps=(1, 1)), "alternations": 1, "steps": 1, "sparse_steps": 1}
        return solver(generator, **own, **options)
    return solver(generator, steps=(1, 1) if solver is ILO else 2, **options)


@pytest.mark.parametrize("solver", SOLVERS)
def test_settings_are_resolved_once(solver: type[Solver], generator: StyleGAN2Generator) -> None:
    found = solver(generator).settings
    assert solver(generator, found).settings == found
    assert found.to_json()["precision"] == "float32", "not auto: bfloat16 has other rows"
    assert solver(generator, precision="bfloat16").settings.precision == "bfloat16"
    unresolved = solver.Settings()
    assert found == solver(generator, unresolved).settings
    assert unresolved == solver.Settings()
    operator = make_operator("cs", SIZE, rate=0.5)
    assert solver(generator).settings_for(operator) == found.changed(selection="measurement")


def test_what_is_resolved(generator: StyleGAN2Generator) -> None:
    assert ILO(generator).settings.steps == (100, 60, 60)
    assert ILO(generator, steps=(3, 4), lr=0.2).settings.lr == (0.2, 0.2)
    assert ILO(generator, steps=(3, 4), lr=0.2).settings.unusual()["lr"] == (0.2, 0.2)
    assert "lr" not in ILO(generator, steps=(3, 4)).settings.unusual()
    csgm = CSGM(generator, lr=(0.2, 0.3), radii="a61-1").settings
    assert isinstance(csgm, CSGMSettings)
    assert (csgm.steps, csgm.lr, csgm.radius_noise, csgm.radii) == (320, 0.2, 100, "none")
    assert (PULSE(generator).settings.steps, MGANPrior(generator).settings.steps) == (100, 320)
    assert MGANPrior(generator).settings == MGANPrior(generator, compose_side=4).settings
    plateau = ILO(generator, switch="plateau").settings.to_json()
    assert (plateau["rampup"], plateau["rampdown"], plateau["switch_window"]) == (0, 0, 20)


@pytest.mark.parametrize("solver", SOLVERS)
def test_mistakes_at_the_door(solver: type[Solver], generator: StyleGAN2Generator) -> None:
    with pytest.raises(UserError, match=r"unknown option 'precison'.*did you mean 'precision'"):
        solver(generator, precison="float32")
    other = PULSESettings if solver is ILO else ILOSettings
    with pytest.raises(UserError, match=f"{solver.__name__} takes {solver.Settings.__name__}"):
        solver(generator, other())
    with pytest.raises(UserError, match="batch_size is 0"):
        solver(generator, batch_size=0)
    with pytest.raises(UserError, match="there is no perceptual term"):
        solver(generator, distance=types.SimpleNamespace())


def test_a_perceptual_term_needs_pictures_of_some_size() -> None:
    G = PGGANGenerator(32, {4: 2, 8: 2, 16: 2, 32: 2}, z_dim=2)
    small = make_operator("sr", (3, 32, 32), factor=16)
    for solver in (ILO(G, perceptual="vgg"), MGANPrior(G, perceptual="vgg")):
        with pytest.raises(UserError, match="'vgg' needs pictures of at least 4 pixels a side"):
            solver.settings_for(small)
    behind = SparseDeviation(G, before=ILOSettings(perceptual="vgg", policy="paper"))
    assert "perceptual" not in behind.settings_for(small).to_json()["before"]
    with pytest.raises(UserError, match="compares pictures"):
        SparseDeviation(G, before=ILOSettings(perceptual="vgg")).check_pictures(
            make_operator("cs", (3, 32, 32), rate=0.1)
        )


def test_the_latent_space_of_a_generator_is_fitted_once(
    generator: StyleGAN2Generator, y: Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "file"))  # so that nothing can be kept on disk
    monkeypatch.setattr(latent_space, "FIT_DRAWS", 100)
    called: list[str] = []
    for name in ("weight_hash", "fit_gaussian"):
        original = getattr(latent_space, name)
        monkeypatch.setattr(latent_space, name, lambda G, f=original, n=name: (called.append(n), f(G))[1])
    operator = make_operator("inversion", SIZE)
    with warnings.catch_warnings(record=True):
        first = quick(CSGM, generator).invert(y, operator)
        assert called == ["weight_hash", "fit_gaussian"]
        again = quick(CSGM, generator).invert(y, operator)
        assert len(called) == 2
        assert torch.equal(first.x, again.x)
        with torch.no_grad():
            generator.mapping_layers[0].weight.data[0, 0] += 0.1  # what no version counter sees
        quick(CSGM, generator).invert(y, operator)
    assert called == ["weight_hash", "fit_gaussian"] * 2


@pytest.mark.parametrize("solver", SOLVERS)
def test_callers_without_gradients(solver: type[Solver], generator: StyleGAN2Generator, y: Tensor) -> None:
    operator = make_operator("inpaint", SIZE, rate=0.5)
    expected = quick(solver, generator).invert(y, operator).x
    latent_space._known.clear()
    with torch.inference_mode():
        assert torch.equal(quick(solver, generator).invert(y * 1, operator).x, expected)
    with torch.no_grad():
        assert torch.equal(quick(solver, generator).invert(y, operator).x, expected)


@pytest.mark.parametrize(
    ("info", "differing"),
    [
        ({"rtil": False}, []),
        ({"rtil": False, "branches": "mixture", "mixture_side": 4}, []),
        ({"rtil": True}, ["mganprior"]),
        ({"rtil": True, "branches": "additive"}, ["mganprior"]),
        ({"rtil": True, "branches": "additive", "sigma": 0}, ["ilo", "mganprior"]),
        ({"rtil": True, "branches": "additive", "resolution": 256}, ["mganprior"]),
        ({"rtil": True, "branches": "additive", "resolution": 16}, ["ilo", "mganprior"]),  # cuts 1 and 2, three entered
        ({"rtil": True, "branches": "mixture", "mixture_side": 8, "codes": [1, 10, 20]}, ["ilo"]),
        ({"rtil": True, "branches": "mixture", "mixture_side": 4, "codes": [1, 10, 20]}, ["ilo", "mganprior"]),
    ],
)
def test_which_checkpoints_were_trained_otherwise(info, differing: list[str]) -> None:
    G = PGGANGenerator(32, {4: 2, 8: 2, 16: 2, 32: 2}, z_dim=2)
    info = {"resolution": 32} | info if info["rtil"] else info
    solvers = {"ilo": ILO(G), "csgm": CSGM(G), "pulse": PULSE(G), "mganprior": MGANPrior(G, compose_side=8)}
    assert [name for name, solver in solvers.items() if solver.trained_otherwise(info)] == differing
    for inner in ("ilo", "csgm", "pulse"):
        assert SparseDeviation(G, inner=inner).trained_otherwise(info) == (inner in differing)


def test_codes_compose_where_they_were_mixed_in_training() -> None:
    vanilla = {"arch": "pggan", "rtil": False}
    at_4, at_8 = ({"arch": "pggan", "rtil": True, "branches": "mixture", "mixture_side": side} for side in (4, 8))
    other = at_4 | {"arch": "stylegan2"}
    settings = MGANPriorSettings()
    assert settings.of_checkpoint(vanilla, [vanilla]) == settings
    assert settings.of_checkpoint(vanilla, [vanilla, at_8, other]).compose_side == 8
    assert settings.changed(compose_side=4).of_checkpoint(vanilla, [vanilla, at_8]).compose_side == 4
    with pytest.raises(UserError, match=r"\[4, 8\]: give compose_side"):
        settings.of_checkpoint(vanilla, [at_4, at_8])


def test_the_papers_pair() -> None:
    settings = MGANPriorSettings(pair="paper", perceptual="vgg")
    vanilla, rtil = (settings.of_checkpoint({"rtil": rtil}, []).to_json() for rtil in (False, True))
    names = ("optimizer", "lr", "alpha_init", "perceptual_weight")
    assert [vanilla[name] for name in names] == ["sgd", 1.0, "channels", 0.5]
    assert [rtil[name] for name in names] == ["adam", 0.1, "dirichlet", 0.1]
    assert {name for name in rtil if rtil[name] != vanilla[name]} == set(names)
    assert "pair" not in rtil


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        (ILO, {"steps": (3, 2, 2)}),
        (ILO, {"steps": (3, 0, 2)}),
        (ILO, {"steps": (0, 0, 2)}),
        (ILO, {"steps": (0, 0, 0)}),
        (ILO, {"steps": (2, 2, 1), "range_projection": 4}),
        (CSGM, {"steps": 3}),
        (CSGM, {"steps": 0}),
        (PULSE, {"steps": 2}),
        (MGANPrior, {"steps": 2, "codes": 2}),
        (SparseDeviation, {"before": ILOSettings(steps=(1, 2)), "alternations": 2, "steps": 1, "sparse_steps": 3}),
    ],
)
@pytest.mark.parametrize("restarts", [1, 2])
def test_a_callback_sees_as_many_iterates_as_are_announced(
    solver: type[Solver], options: dict[str, object], restarts: int, generator: StyleGAN2Generator, y: Tensor
) -> None:
    found = solver(generator, restarts=restarts, **options)
    seen = []
    found.invert(y, make_operator("inversion", SIZE), callback=lambda k, step, x: seen.append(len(x)))
    assert set(seen) <= {2}
    assert found.iterates() is not None
    assert len(seen) == restarts * found.iterates()  # type: ignore[operator]
