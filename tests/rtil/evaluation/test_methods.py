import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ilo import CSGM, ILO, PULSE, SparseDeviation
from ilo.presets import preset_radii
from mganprior import MGANPrior
from rtil.errors import Notice, UserError
from rtil.evaluation.methods import (
    METHODS,
    OF_ANY_METHOD,
    STEPS,
    USED,
    Series,
    SolverOptions,
    composing_as_trained,
    mixes_differently,
)
from rtil.evaluation.rows import settings_hash
from rtil.inverse.one_cycle import Linear1CycleDrop
from rtil.inverse.operators import make_operator
from rtil.inverse.perceptual import Perceptual
from rtil.inverse.plateau import Plateau
from rtil.inverse.schedules import Ramp
from rtil.inverse.solver import Solver
from rtil.snapshot import Snapshot, load_snapshot

ILO_SERIES, CSGM_SERIES, PULSE_SERIES = Series("ilo"), Series("csgm"), Series("pulse")
TWENTY = Series("mganprior", 20)
OF_ILO = {
    *("geodesic_weight", "geodesic_of", "z1_weight", "z1_start", "z1_sigma", "z1_sphere", "sphere", "start", "noise"),
    *("radius_noise", "radius_latent", "radius_feature", "switch", "switch_window", "switch_threshold"),
    *("perceptual_mode", "policy", "measurement_weight", "sna_sigma", "range_projection", "range_steps"),
}
OF_MGANPRIOR = {"compose_side", "alpha_init", "optimizer", "noise"}
OF_PULSE = {"lr", "geodesic_weight", "geodesic_of", "noise", "eps", "clamp"}
OF_ALL = {"precision", "restarts", "combination"}


@pytest.fixture
def small(make_run: Callable[..., Path]) -> Snapshot:
    return load_snapshot(make_run("0", rtil=False))


@pytest.fixture
def small_rtil(make_run: Callable[..., Path]) -> Snapshot:
    return load_snapshot(make_run("1", rtil=True, branches="mixture", mixture_side=4))


class NoPerceptual(Perceptual):
    """A perceptual term without weights."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)


def _defaults(*classes: type) -> dict[str, Any]:
    return {name: parameter.default for cls in classes for name, parameter in inspect.signature(cls).parameters.items()}


def test_the_defaults_are_the_solvers_own() -> None:
    options = SolverOptions()
    for cls, names in ((Solver, OF_ALL), (ILO, OF_ILO), (MGANPrior, OF_MGANPRIOR)):
        own = _defaults(cls)
        for name in names:
            assert getattr(options, name) == own[name], name
    assert options.lr == [_defaults(ILO)["lr"]]
    assert _defaults(ILO)["steps"] == STEPS
    assert _defaults(MGANPrior)["steps"] == sum(STEPS)
    assert options.mganprior_lr == _defaults(MGANPrior)["lr"]
    assert options.codes == [_defaults(MGANPrior)["codes"]]
    assert (options.perceptual, _defaults(MGANPrior)["perceptual"]) == ("none", None)
    assert Ramp(options.rampup, options.rampdown) == Ramp()
    assert (options.ilo_perceptual, _defaults(ILO)["perceptual"]) == ("none", None)
    assert options.ilo_perceptual_weight == _defaults(ILO)["perceptual_weight"]
    others = {"steps", "steps_preset", "rounds", "lr", "rampup", "rampdown", "codes", "mganprior_lr", "pair", "radii"}
    perceptual = {"perceptual", "perceptual_weight", "ilo_perceptual", "ilo_perceptual_weight"}
    own = _defaults(SparseDeviation)
    named = {"sparse_alternations": "alternations", "sparse_latent_steps": "steps", "sparse_steps": "sparse_steps"}
    assert {name: getattr(options, name) for name in named} == {name: own[of] for name, of in named.items()}
    sparse = {"sparse_inner", "sparse_radius", *named}
    assert {name: getattr(options, f"pulse_{name}") for name in OF_PULSE} == {
        name: _defaults(PULSE)[name] for name in OF_PULSE
    }
    pulse = {f"pulse_{name}" for name in OF_PULSE}
    assert set(vars(options)) == others | perceptual | sparse | pulse | OF_ALL | OF_ILO | OF_MGANPRIOR
    assert set(vars(options)) == {*OF_ANY_METHOD}.union(*USED.values())


def test_every_setting_reaches_ilo(small: Snapshot) -> None:
    options = SolverOptions(
        steps=[3, 4, 5],
        lr=[0.1, 0.2, 0.3],
        noise="first5",
        geodesic_weight=0.5,
        geodesic_of="ws",
        z1_weight=0.25,
        z1_start="normal",
        sphere=False,
        start="mean",
        rampup=0.2,
        rampdown=0.3,
        precision="bfloat16",
        restarts=2,
        combination="mean",
    )
    solver = options.solver(ILO_SERIES, small, "heldout", seed=7)
    assert isinstance(solver, ILO)
    assert (solver.steps, solver.lrs, solver.noise) == ((3, 4, 5), (0.1, 0.2, 0.3), "first5")
    assert (solver.geodesic_weight, solver.geodesic_of) == (0.5, "ws")
    assert (solver.z1_weight, solver.z1_start) == (0.25, "normal")
    assert (solver.sphere, solver.start, solver.schedule) == (False, "mean", Ramp(0.2, 0.3))
    assert (solver.compute_dtype, solver.restarts, solver.combination) == (torch.bfloat16, 2, "mean")
    assert (solver.selection, solver.seed) == ("heldout", 7)


def test_every_constraint_and_term_reaches_ilo(small: Snapshot) -> None:
    options = SolverOptions(
        steps=[3, 4],
        radius_noise=[1.0, 2.0],
        radius_latent=[3.0],
        z1_start="normal",
        z1_sigma=0.5,
        z1_sphere=True,
        switch="plateau",
        switch_window=7,
        switch_threshold=0.3,
        ilo_perceptual="vgg",
        ilo_perceptual_weight=0.4,
        perceptual_mode="mask",
        policy="paper",
        measurement_weight=0.0,
        sna_sigma=25.0,
        range_projection=2,
        range_steps=9,
    )
    term = NoPerceptual()
    solver = options.solver(ILO_SERIES, small, "last", 0, term)
    assert isinstance(solver, ILO)
    assert (solver.radius_noise, solver.radius_latent, solver.radius_feature) == ((1, 2), (3, 3), None)
    assert (solver.z1_start, solver.z1_sigma, solver.z1_sphere) == ("normal", 0.5, True)
    assert (solver.plateau, solver.schedule) == (Plateau(7, 0.3), Ramp(0, 0))
    assert (solver.perceptual, solver.perceptual_weight, solver.perceptual_mode) == (term, 0.4, "mask")
    assert (solver.policy, solver.measurement_weight, solver.sna_sigma) == ("paper", 0, 25)
    assert (solver.range_projection, solver.range_steps) == (2, 9)
    csgm = options.solver(CSGM_SERIES, small, "last", 0, term)
    assert isinstance(csgm, CSGM)
    assert (csgm.steps, csgm.radius_noise, csgm.radius_latent) == ((7,), (1,), (3,))
    assert (csgm.perceptual, csgm.sna_sigma, csgm.range_projection, csgm.z1_sphere) == (term, 25, 0, False)
    features = replace(options, z1_sphere=False, radius_feature=[0.0, 5.0])
    held = features.solver(ILO_SERIES, small, "last", 0)
    assert isinstance(held, ILO)
    assert (held.radius_feature, held.perceptual) == ((0, 5), None)


def test_each_new_setting_changes_the_hash_and_only_where_it_acts(small: Snapshot) -> None:
    def hashed(series: Series, pictures: bool = True, **options: Any) -> str:
        return settings_hash(SolverOptions(**options).arguments(series, small, "measurement", pictures))

    acting: dict[str, dict[str, Any]] = {
        "radii": {"radii": "a61-1"},
        "switch": {"switch": "plateau"},
        "sna": {"sna_sigma": 25.0},
        "known": {"sna_sigma": "known"},
        "perceptual": {"ilo_perceptual": "lpips"},
        "range": {"range_projection": 1},
        "sphere": {"z1_sphere": True, "z1_start": "normal"},
        "preset": {"steps_preset": "z1"},
        "geodesic": {"geodesic_of": "ws"},
    }
    found = {name: hashed(ILO_SERIES, **options) for name, options in acting.items()}
    assert len({hashed(ILO_SERIES), *found.values()}) == len(acting) + 1
    assert hashed(ILO_SERIES, False, ilo_perceptual="lpips") == hashed(ILO_SERIES)
    for options in ({"range_projection": 1}, {"z1_sigma": 0.5}, {"radius_feature": [1.0]}):
        assert hashed(CSGM_SERIES, **options) == hashed(CSGM_SERIES)
    assert hashed(CSGM_SERIES, geodesic_of="ws") != hashed(CSGM_SERIES)
    assert hashed(ILO_SERIES, geodesic_of="ws", geodesic_weight=0.0) == hashed(ILO_SERIES, geodesic_weight=0.0)
    for options in ({"switch_window": 5}, {"range_steps": 5}, {"policy": "paper"}, {"ilo_perceptual_weight": 2.0}):
        assert hashed(ILO_SERIES, **options) == hashed(ILO_SERIES), "nothing to act on"


def test_named_settings_are_their_numbers(small: Snapshot) -> None:
    named = SolverOptions(steps_preset="z2", radii="a61-3")
    radii = preset_radii("a61-3", small.generator, 3)
    written = SolverOptions(
        steps=[2000, 1000, 2000],
        radius_noise=list(radii.noise),
        radius_latent=list(radii.latent),
        radius_feature=list(radii.feature),
    )
    assert named.arguments(ILO_SERIES, small, "last") == written.arguments(ILO_SERIES, small, "last")
    csgm = named.arguments(CSGM_SERIES, small, "last")
    assert (csgm["steps"], csgm["radius_noise"], "radius_feature" in csgm) == ([5000], [1500], False)


def test_every_setting_reaches_mganprior(small: Snapshot) -> None:
    options = SolverOptions(
        steps=[3, 4, 5],
        codes=[2, 7],
        compose_side=8,
        alpha_init="dirichlet",
        optimizer="sgd",
        mganprior_lr=0.7,
        perceptual="vgg",
        perceptual_weight=0.3,
        noise="none",
        rampup=0.2,
        rampdown=0.3,
        precision="bfloat16",
        restarts=2,
        combination="mean",
    )
    series = options.series(["mganprior", "ilo"])
    assert [s.label for s in series] == ["mganprior-2", "mganprior-7", "ilo"]
    term = NoPerceptual()
    solver = options.solver(series[1], small, "heldout", 7, term)
    assert isinstance(solver, MGANPrior)
    assert (solver.steps, solver.codes, solver.cut, solver.alpha_init) == (12, 7, 2, "dirichlet")
    assert (solver.optimizer, solver.lr, solver.schedule) == ("sgd", 0.7, Ramp(0.2, 0.3))
    assert (solver.perceptual, solver.perceptual_weight, list(solver.moving_maps)) == (term, 0.3, [])
    assert (solver.compute_dtype, solver.restarts, solver.combination) == (torch.bfloat16, 2, "mean")
    assert (solver.selection, solver.seed) == ("heldout", 7)


def test_csgm_and_mganprior_get_the_sum_of_the_steps(small: Snapshot) -> None:
    options = SolverOptions(steps=[3, 4, 5], lr=[0.1, 0.2, 0.3])
    csgm = options.solver(CSGM_SERIES, small, "last", 0)
    assert isinstance(csgm, CSGM)
    assert (csgm.steps, csgm.lrs) == ((12,), (0.1,))
    mganprior = options.solver(TWENTY, small, "last", 0)
    assert isinstance(mganprior, MGANPrior)
    assert (mganprior.steps, mganprior.lr, mganprior.codes) == (12, 0.1, 20)


def test_the_perceptual_term_belongs_to_measurements_that_are_pictures(small: Snapshot) -> None:
    options = SolverOptions(perceptual="vgg", perceptual_weight=0.3)
    with_term, without = (options.arguments(TWENTY, small, "last", pictures) for pictures in (True, False))
    assert (with_term["perceptual"], with_term["perceptual_weight"]) == ("vgg", 0.3)
    assert without == SolverOptions().arguments(TWENTY, small, "last", True)
    solver = options.solver(TWENTY, small, "last", 0, perceptual=None)
    assert isinstance(solver, MGANPrior)
    assert (solver.perceptual, solver.perceptual_weight) == (None, 0)


def test_every_method_has_its_own_perceptual_term(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("rtil.evaluation.methods.Perceptual", lambda name, dtype: opened.append(name) or NoPerceptual())
    options, cpu = SolverOptions(ilo_perceptual="lpips", perceptual="vgg"), torch.device("cpu")
    names = {method: options.perceptual_name(method) for method in METHODS}
    assert names == {"ilo": "lpips", "csgm": "lpips", "sparse": "lpips", "pulse": None, "mganprior": "vgg"}
    assert [options.open_perceptual(method, cpu) is None for method in ("csgm", "pulse", "mganprior")] == [0, 1, 0]
    assert opened == ["lpips", "vgg"]
    assert SolverOptions().open_perceptual("ilo", cpu) is None


def test_where_a_method_has_its_term() -> None:
    size = (3, 32, 32)
    full, sparse = (make_operator("inpaint", size, rate=rate) for rate in (0.75, 0.1))
    cs = make_operator("cs", size, rate=0.5)
    always, paper = (
        SolverOptions(ilo_perceptual="lpips", perceptual="vgg", policy=policy)  # type: ignore[arg-type]
        for policy in ("always", "paper")
    )
    for options, expected in ((always, [True, True, False]), (paper, [True, False, False])):
        assert [options.has_perceptual_term("ilo", operator) for operator in (full, sparse, cs)] == expected
    assert paper.has_perceptual_term("mganprior", sparse)
    assert not always.has_perceptual_term("pulse", full)
    assert not SolverOptions().has_perceptual_term("ilo", full)


def test_every_setting_reaches_the_sparse_deviation(small: Snapshot) -> None:
    options = SolverOptions(
        steps=[3, 4],
        lr=[0.2, 0.3],
        sphere=False,
        noise="first5",
        rampup=0.2,
        restarts=2,
        ilo_perceptual="vgg",
        sparse_radius=5.0,
        sparse_alternations=2,
        sparse_latent_steps=7,
        sparse_steps=8,
    )
    term = NoPerceptual()
    solver = options.solver(Series("sparse"), small, "heldout", 7, term)
    assert isinstance(solver, SparseDeviation)
    inner = solver.inner
    assert isinstance(inner, ILO)
    assert (inner.steps, inner.lrs, inner.sphere, inner.noise, inner.perceptual) == (
        (3, 4),
        (0.2, 0.3),
        0,
        "first5",
        term,
    )
    assert (solver.radius, solver.alternations, solver.steps, solver.sparse_steps) == (5, 2, 7, 8)
    assert (solver.lr, solver.sphere, solver.noise, solver.schedule) == (0.3, False, "first5", Ramp(0.2, Ramp.rampdown))
    assert (solver.selection, solver.seed, solver.restarts) == ("heldout", 7, 2)
    behind = replace(options, sparse_inner="csgm", sparse_radius=None).solver(Series("sparse"), small, "last", 0)
    assert isinstance(behind, SparseDeviation)
    assert isinstance(behind.inner, CSGM)
    assert (behind.inner.steps, behind.radius) == ((7,), pytest.approx(0.02 * 3 * 16 * 16))


def test_pulse_has_its_own_schedule_and_the_sum_of_the_steps(small: Snapshot) -> None:
    options = SolverOptions(steps=[5, 6], restarts=2, rampup=0.5)
    pulse = options.solver(Series("pulse"), small, "last", 3)
    assert isinstance(pulse, PULSE)
    assert (pulse.steps, pulse.restarts, pulse.seed, pulse.selection) == (11, 2, 3, "last")
    assert isinstance(pulse.schedule, Linear1CycleDrop)
    same = options.arguments(Series("pulse"), small, "last") == SolverOptions(
        steps=[11], rounds=1, restarts=2
    ).arguments(Series("pulse"), small, "last")
    assert same


def test_every_setting_reaches_pulse(small: Snapshot) -> None:
    options = SolverOptions(
        steps=[3],
        rounds=1,
        pulse_lr=0.7,
        pulse_geodesic_weight=0.1,
        pulse_geodesic_of="v",
        pulse_noise="fixed",
        pulse_eps=0.01,
        pulse_clamp=True,
    )
    solver = options.solver(PULSE_SERIES, small, "last", 0)
    assert isinstance(solver, PULSE)
    assert (solver.steps, solver.lr, solver.geodesic_weight, solver.geodesic_of) == (3, 0.7, 0.1, "v")
    assert (solver.noise, solver.largest_error, solver.clamp) == ("fixed", 0.04, True)


def test_pulses_settings_have_the_hash_of_older_versions(small: Snapshot) -> None:
    """They were these alone, before PULSE had any option of its own."""
    older = {"steps": 320, "selection": "last", "precision": "auto", "restarts": 1, "combination": "best"}
    assert SolverOptions(steps=[100, 60, 60, 100], lr=[0.3]).arguments(PULSE_SERIES, small, "last") == older
    assert SolverOptions(steps=[320], rounds=1, pulse_lr=0.3).arguments(PULSE_SERIES, small, "last") == older | {
        "lr": 0.3
    }


def test_settings_without_effect_are_told_for_each_method(small: Snapshot) -> None:
    options = SolverOptions(steps=[2], lr=[0.3], start="mean", range_projection=1, codes=[3])
    pulse = r"^method 'pulse' does not use lr, start, range_projection, but has pulse_lr$"
    for series, told in (
        (PULSE_SERIES, pulse),
        (CSGM_SERIES, r"^method 'csgm' does not use range_projection$"),
        (Series("csgm", name="quick"), r"^variant 'quick': method 'csgm' does not use range_projection$"),
        (TWENTY, r"^method 'mganprior' does not use lr, start, range_projection, but has mganprior_lr$"),
    ):
        with pytest.warns(Notice, match=told):
            options.solver(series, small, "last", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        for series in (ILO_SERIES, Series("sparse")):
            options.solver(series, small, "last", 0)
        for series in (PULSE_SERIES, CSGM_SERIES, TWENTY):
            SolverOptions(steps=[2], codes=[3], pulse_lr=0.1).solver(series, small, "last", 0)
    with pytest.warns(Notice, match="does not use range_projection"):
        replace(options, sparse_inner="csgm").solver(Series("sparse"), small, "last", 0)


def test_settings_that_no_method_uses() -> None:
    options = SolverOptions(lr=[0.3], range_projection=1, codes=[3])
    everything = list(vars(options))
    with pytest.raises(UserError, match=r"^method 'pulse' does not use lr, range_projection.*: leave them away$"):
        options.check_used(["pulse"], everything)
    with pytest.raises(UserError, match=r"^none of csgm, pulse uses range_projection: leave it away$"):
        options.check_used(["csgm", "pulse"], ["steps", "range_projection"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        options.check_used(["ilo", "pulse"], ["lr", "range_projection", "steps", "images"])
        options.check_used(["pulse"], [])
        SolverOptions().check_used(["pulse"], everything)
    with pytest.warns(Notice, match=r"^none of ilo, csgm uses codes$"):
        options.check_used(["ilo", "csgm"], ["codes", "range_projection"])


def test_the_papers_pair(small: Snapshot, small_rtil: Snapshot) -> None:
    options = SolverOptions(pair="paper", perceptual="vgg")
    names = ("optimizer", "lr", "alpha_init", "perceptual_weight")
    vanilla, rtil = (options.arguments(TWENTY, s, "last") for s in (small, small_rtil))
    assert [vanilla[name] for name in names] == ["sgd", 1.0, "channels", 0.5]
    assert [rtil[name] for name in names] == ["adam", 0.1, "dirichlet", 0.1]
    assert {name for name in rtil if rtil[name] != vanilla[name]} == set(names)
    common = [SolverOptions().arguments(TWENTY, s, "last") for s in (small, small_rtil)]
    assert common[0] == common[1]


def test_ilos_settings_have_the_hash_of_older_versions(small: Snapshot) -> None:
    """Otherwise their rows would be computed anew when a run is resumed."""
    common = {"noise_sigma": 0.0, "lpips": "alex"}
    options = SolverOptions(steps=[100, 60, 60, 100])
    for series, expected in ((ILO_SERIES, "3e875f23208c"), (CSGM_SERIES, "bd094a7fc90c")):
        assert settings_hash(common | options.arguments(series, small, "measurement")) == expected


def test_equal_sides_are_equal_settings(small: Snapshot) -> None:
    default, named = (SolverOptions(compose_side=side).arguments(TWENTY, small, "last") for side in (None, 4))
    assert default == named


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
def test_where_training_and_inversion_mix_differently(info: dict[str, Any], differing: list[str]) -> None:
    arguments = {"compose_side": 8, "steps": [9, 9, 9, 9]}
    info = {"resolution": 32} | info
    found = [m for m in METHODS if m != "sparse" and mixes_differently(m, arguments, info)]
    assert found == differing
    for inner in ("ilo", "csgm"):
        behind = {"inner": inner, "of_inner": arguments}
        assert mixes_differently("sparse", behind, info) == (inner in differing)


def test_codes_compose_where_they_were_mixed_in_training(
    small: Snapshot, small_rtil: Snapshot, make_run: Callable[..., Path]
) -> None:
    at_eight = load_snapshot(make_run("2", rtil=True, branches="mixture", mixture_side=8))
    assert composing_as_trained(SolverOptions(), small, [small]).compose_side is None
    assert composing_as_trained(SolverOptions(), small, [small, at_eight]).compose_side == 8
    assert composing_as_trained(SolverOptions(compose_side=4), small, [small, at_eight]).compose_side == 4
    with pytest.raises(UserError, match=r"\[4, 8\]: give --compose_side"):
        composing_as_trained(SolverOptions(), small, [small_rtil, at_eight])


@pytest.mark.parametrize(
    ("options", "blocks", "expected"),
    [
        (SolverOptions(), 4, (100, 60, 60, 100)),
        (SolverOptions(), 3, (100, 60, 60)),
        (SolverOptions(), 7, (100, 60, 60, 100)),
        (SolverOptions(rounds=2), 4, (100, 60)),
        (SolverOptions(steps=[5]), 3, (5, 5, 5)),
        (SolverOptions(steps=[5], rounds=1), 4, (5,)),
        (SolverOptions(steps=[5, 6, 7], rounds=2), 4, (5, 6)),
        (SolverOptions(steps_preset="icml-quick"), 4, (50, 50, 50, 50)),
        (SolverOptions(steps_preset="exp4"), 4, (2000, 1000, 1000, 1000)),
        (SolverOptions(steps_preset="z4", rounds=2), 7, (2000, 1000)),
    ],
)
def test_steps_per_round(options: SolverOptions, blocks: int, expected: tuple[int, ...]) -> None:
    assert options.steps_per_round(blocks) == expected


def test_wrong_settings_are_named(small: Snapshot) -> None:
    with pytest.raises(UserError, match="rounds is 3 but steps has 2"):
        SolverOptions(steps=[1, 2], rounds=3).steps_per_round(4)
    with pytest.raises(UserError, match="steps and steps_preset 'rtil' say the same"):
        SolverOptions(steps=[1], steps_preset="rtil").steps_per_round(4)
    with pytest.raises(UserError, match="radii 'a61-1' sets radius_latent itself"):
        SolverOptions(radii="a61-1", radius_latent=[1.0]).arguments(ILO_SERIES, small, "last")
    with pytest.raises(UserError, match="ilo_perceptual_weight is 0: valid is a number above 0"):
        SolverOptions(ilo_perceptual="vgg", ilo_perceptual_weight=0).solver(ILO_SERIES, small, "last", 0)
    with pytest.raises(UserError, match="did you mean 'csgm'"):
        SolverOptions().series(["csgn"])
    with pytest.raises(UserError, match="4 rounds"):
        SolverOptions(steps=[1, 2, 3, 4]).solver(ILO_SERIES, small, "last", 0)
    for codes in ([0], [20, -1], [], [5, 5]):
        with pytest.raises(UserError, match=r"codes is .*valid are whole numbers of 1 or more, each once"):
            SolverOptions(codes=codes).series(["mganprior"])
    with pytest.raises(UserError, match=r"compose_side is 32: .*16 px generator has features of side 4, 8, 16 px"):
        SolverOptions(compose_side=32).solver(TWENTY, small, "last", 0)
    with pytest.raises(UserError, match=r"pair 'paper' sets optimizer itself"):
        SolverOptions(pair="paper", optimizer="sgd").series(["mganprior"])
    with pytest.raises(UserError, match=r"perceptual_weight is 0: .*perceptual none"):
        SolverOptions(perceptual="vgg", perceptual_weight=0).series(["mganprior"])
