import warnings
from collections.abc import Mapping
from typing import Any

import pytest

from ilo.settings import CSGMSettings, ILOSettings, PULSESettings, SparseSettings
from mganprior.settings import MGANPriorSettings
from rtil.baselines import BASELINES
from rtil.cli.eval import read_variant
from rtil.errors import Notice, UserError
from rtil.evaluation.candidates import (
    BASELINE_NAMES,
    Budget,
    Candidate,
    candidates_of_methods,
    candidates_of_variants,
    check_used,
    overlaid,
    short_names,
    standard_settings,
)
from rtil.inverse.registry import settings_class


def _variants(table: Mapping[str, Any], **given: Any) -> list[Candidate]:
    settings = overlaid(standard_settings(), {name.replace("__", "."): value for name, value in given.items()})
    return candidates_of_variants(table, settings, Budget(), ["auto"], read_variant)


def test_every_short_name_is_that_of_settings() -> None:
    for name, targets in short_names().items():
        for target in targets:
            method, _, option = target.partition(".")
            assert hasattr(settings_class(method)(), option), (name, target)


def test_methods_share_their_steps_and_have_their_own_settings() -> None:
    settings = overlaid(standard_settings(), {"csgm.lr": 0.2, "mganprior.optimizer": "sgd"})
    budget = Budget(steps=[3, 4], codes=[1, 20])
    found = candidates_of_methods(["csgm", "mganprior"], settings, budget, ["measurement", "last"])
    assert [(c.label, c.settings.selection) for c in found] == [
        (label, selection) for label in ("csgm", "mganprior-1", "mganprior-20") for selection in ("measurement", "last")
    ]
    csgm, mganprior = found[0].settings_for(4, {}, []), found[-1].settings_for(4, {}, [])
    assert isinstance(csgm, CSGMSettings)
    assert isinstance(mganprior, MGANPriorSettings)
    assert (csgm.steps, csgm.lr) == (7, 0.2)
    assert (mganprior.steps, mganprior.codes, mganprior.optimizer, mganprior.lr) == (7, 20, "sgd", 0.1)


def test_steps_of_a_method_come_before_those_of_all() -> None:
    settings = overlaid(standard_settings(), {"csgm.steps": 5})
    (csgm, ilo) = candidates_of_methods(["csgm", "ilo"], settings, Budget(steps=[3]), ["last"])
    assert csgm.settings_for(4, {}, []).steps == 5  # type: ignore[attr-defined]
    assert ilo.settings_for(4, {}, []).steps == (3, 3, 3, 3)  # type: ignore[attr-defined]


def test_a_sparse_deviation_takes_the_settings_of_what_runs_before() -> None:
    settings = overlaid(standard_settings(), {"csgm.lr": 0.3, "sparse.inner": "csgm", "sparse.steps": 7})
    (one,) = candidates_of_methods(["sparse"], settings, Budget(steps=[3, 4]), ["heldout"])
    sparse = one.settings_for(4, {}, [])
    assert isinstance(sparse, SparseSettings)
    assert isinstance(sparse.before, CSGMSettings)
    assert (sparse.steps, sparse.before.steps, sparse.before.lr, sparse.selection) == (7, 7, 0.3, "heldout")


def test_variants_are_called_by_their_names_and_change_what_they_say() -> None:
    found = _variants(
        {
            "a": {"method": "csgm", "lr": 0.2},
            "b": {"steps": [3], "z1_weight": 1, "ilo_perceptual": "vgg"},
            "few": {"method": "mganprior", "codes": [2]},
            "m": {"method": "mganprior", "codes": [1, 20], "mganprior.optimizer": "sgd"},
            "pulse": {"lr": 0.3, "pulse_eps": 0.5},
            "held": {"selection": "heldout"},
            "behind": {"method": "sparse", "inner": "csgm", "geodesic_weight": 0},
        },
        ilo__z1_sigma=0.5,
    )
    assert [(c.label, c.method, c.is_variant) for c in found] == [
        ("a", "csgm", True),
        ("b", "ilo", True),
        ("few", "mganprior", True),
        ("m-1", "mganprior", True),
        ("m-20", "mganprior", True),
        ("pulse", "pulse", True),
        ("held", "ilo", True),
        ("behind", "sparse", True),
    ]
    settings = {c.label: c.settings for c in found}
    assert settings["a"] == CSGMSettings(lr=0.2)
    assert settings["b"] == ILOSettings(z1_weight=1, perceptual="vgg", z1_sigma=0.5)
    assert found[1].budget == Budget(steps=[3])
    assert settings["few"] == MGANPriorSettings(codes=2)
    assert settings["m-20"] == MGANPriorSettings(codes=20, optimizer="sgd")
    assert settings["pulse"] == PULSESettings(lr=0.3, eps=0.5)
    assert settings["held"] == ILOSettings(selection="heldout", z1_sigma=0.5)
    behind = settings["behind"]
    assert isinstance(behind, SparseSettings)
    assert behind.before == CSGMSettings(geodesic_weight=0)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({}, "there is none"),
        ({"a b": {}}, "variant name 'a b' is not valid"),
        ({"-a": {}}, "variant name '-a' is not valid"),
        ({"a" * 17: {}}, "16 at most"),
        ({"linear": {}}, "without checkpoint"),
        ({"tv": {}}, "without checkpoint"),
        ({"csgm": {"method": "ilo"}}, "variant 'csgm' is of method ilo"),
        ({"a": {"method": "iloo"}}, "variant 'a': unknown method 'iloo'.*did you mean 'ilo'"),
        ({"a": {"method": "mganprior", "codes": [0]}}, "variant 'a': codes is 0"),
        ({"a": {"method": "csgm", "z1_weight": 1}}, "variant 'a': method 'csgm' does not use z1_weight"),
        ({"m-1": {}, "m": {"method": "mganprior", "codes": [1, 2]}}, "two are called 'm-1'"),
    ],
)
def test_what_is_no_variant(variants: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _variants(variants)


def test_settings_that_no_method_uses() -> None:
    changed = {"ilo.lr": (0.3,), "csgm.lr": (0.3,), "ilo.range_projection": 1, "mganprior.optimizer": "sgd"}
    settings = overlaid(standard_settings(), changed)
    given = ["lr", "range_projection", "optimizer", "steps", *changed]
    with pytest.raises(UserError, match=r"^method 'pulse' does not use lr, range_projection, but has pulse.lr: leave"):
        check_used(["pulse"], settings, given)
    with pytest.raises(UserError, match=r"^none of csgm, pulse uses range_projection: leave it away$"):
        check_used(["csgm", "pulse"], settings, ["range_projection", "ilo.range_projection"])
    with pytest.raises(UserError, match=r"^method 'csgm' does not use ilo.range_projection: leave it away$"):
        check_used(["csgm"], settings, ["ilo.range_projection"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        check_used(["ilo", "pulse"], settings, ["lr", "range_projection", "steps", "images"])
        check_used(["sparse"], settings, ["lr", "range_projection"])
        check_used(["pulse"], settings, [])
        check_used(["pulse"], standard_settings(), given)
    with pytest.warns(Notice, match=r"^none of ilo, csgm uses optimizer$"):
        check_used(["ilo", "csgm"], settings, ["optimizer", "mganprior.optimizer"])


@pytest.mark.parametrize(
    ("budget", "blocks", "expected"),
    [
        (Budget(), 4, (100, 60, 60, 100)),
        (Budget(), 3, (100, 60, 60)),
        (Budget(), 7, (100, 60, 60, 100)),
        (Budget(rounds=2), 4, (100, 60)),
        (Budget(steps=[5]), 3, (5, 5, 5)),
        (Budget(steps=[5], rounds=1), 4, (5,)),
        (Budget(steps=[5, 6, 7], rounds=2), 4, (5, 6)),
        (Budget(steps_preset="icml-quick"), 4, (50, 50, 50, 50)),
        (Budget(steps_preset="exp4"), 4, (2000, 1000, 1000, 1000)),
        (Budget(steps_preset="z4", rounds=2), 7, (2000, 1000)),
    ],
)
def test_steps_per_round(budget: Budget, blocks: int, expected: tuple[int, ...]) -> None:
    assert budget.per_round(blocks) == expected


def test_wrong_budgets_are_named() -> None:
    with pytest.raises(UserError, match="rounds is 3 but steps has 2"):
        Budget(steps=[1, 2], rounds=3).per_round(4)
    with pytest.raises(UserError, match="steps and steps_preset 'rtil' say the same"):
        Budget(steps=[1], steps_preset="rtil").per_round(4)
    for codes in ([0], [20, -1], [], [5, 5]):
        with pytest.raises(UserError, match=r"codes is .*valid are whole numbers of 1 or more, each once"):
            candidates_of_methods(["mganprior"], standard_settings(), Budget(codes=codes), ["last"])
    with pytest.raises(UserError, match="did you mean 'csgm'"):
        candidates_of_methods(["csgn"], standard_settings(), Budget(), ["last"])


def test_baselines_are_named_without_opening_them() -> None:
    assert set(BASELINE_NAMES) == set(BASELINES)
