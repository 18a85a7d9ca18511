"""What all settings share: checks, what acts, what is recorded. By the solvers' own and by a small one."""

import json
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from typing import Literal

import pytest

from rtil.errors import UserError
from rtil.inverse.registry import BUILT_IN, method_names, settings_class
from rtil.inverse.settings import SolverSettings, option, per_round


@dataclass(frozen=True, kw_only=True)
class Small(SolverSettings):
    steps: int | None = option(None, least=0)
    rates: float | tuple[float, ...] = option(0.1, above=0)
    pull: float = option(0.5, least=0)
    pull_of: Literal["near", "far"] = option("near", off=True, of="pull")
    share: float = option(0.5, above=0, below=1)
    rule: Literal["fixed", "free"] = option("fixed", off=True)
    window: int = option(20, of="rule", least=1)
    flag: bool = False
    chunk: int = option(8, recorded=False, hidden=True)


def test_settings_need_no_torch() -> None:
    modules = "ilo.settings, mganprior.settings, rtil.inverse.registry as registry, sys"
    code = f"import {modules}; [registry.settings_class(n)() for n in registry.BUILT_IN]; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": -1}, "steps is -1: valid is a whole number of 0 or more or null"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"steps": (3, 4)}, "steps is 3,4"),
        ({"steps": True}, "steps is True"),
        ({"rates": 0.0}, "rates is 0: valid is a number above 0, or one for each round"),
        ({"rates": (0.1, -1.0)}, "rates is 0.1,-1"),
        ({"rates": ()}, "rates is empty"),
        ({"rates": float("inf")}, "rates is inf"),
        ({"pull": float("nan")}, "pull is nan: valid is a number >= 0"),
        ({"pull": None}, "pull is None"),
        ({"pull": "much"}, "pull is much"),
        ({"share": 1.0}, "share is 1: valid is a number above 0 and below 1"),
        ({"rule": "fre"}, "unknown rule 'fre': valid are fixed, free; did you mean 'free'"),
        ({"flag": 1}, "flag is 1: valid is true or false"),
        ({"selection": "lst"}, "unknown selection 'lst'.*did you mean 'last'"),
        ({"restarts": 0}, "restarts is 0: valid is a whole number of 1 or more"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
    ],
)
def test_what_is_not_valid(values, words) -> None:
    with pytest.raises(UserError, match=words) as error:
        Small(**values)
    assert "\n" not in str(error.value)


def test_unknown_options_are_named() -> None:
    with pytest.raises(UserError, match=r"unknown option 'stps'.*did you mean 'steps'"):
        Small().changed(stps=3)


def test_lists_are_tuples_and_settings_can_be_keys() -> None:
    assert Small(rates=[0.1, 0.2]) == Small(rates=(0.1, 0.2))
    assert len({Small(rates=[0.1, 0.2]), Small(rates=(0.1, 0.2)), Small()}) == 2


def test_what_does_not_act_is_not_recorded() -> None:
    plain = Small().to_json()
    assert set(plain) == {
        *("selection", "precision", "restarts", "combination", "steps", "rates", "pull", "share", "flag")
    }
    assert Small(window=5, chunk=2).to_json() == plain
    assert Small(rule="free").to_json() == plain | {"rule": "free", "window": 20}
    assert Small(pull_of="far").to_json() == plain | {"pull_of": "far"}
    assert Small(pull_of="far", pull=0).to_json() == plain | {"pull": 0}
    assert json.loads(json.dumps(Small(rates=(0.1, 0.2)).to_json()))["rates"] == [0.1, 0.2]


def test_what_is_unusual() -> None:
    assert Small().unusual() == {}
    assert Small(rates=(0.1, 0.1), window=5).unusual() == {}
    assert Small(rates=(0.1, 0.2), rule="free").unusual() == {"rates": (0.1, 0.2), "rule": "free"}


def test_one_number_stands_for_every_round() -> None:
    assert per_round("lr", 0.1, 2) == per_round("lr", (0.1,), 2) == per_round("lr", (0.1, 0.1), 2)
    with pytest.raises(UserError, match=r"lr is 0\.1,0\.2: valid is one number, or one for each of 3 rounds"):
        per_round("lr", (0.1, 0.2), 3)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_option_is_documented_where_it_stands(name: str) -> None:
    settings = settings_class(name)
    documented = {
        f.name for cls in settings.__mro__ for f in fields(settings) if f"\n        {f.name}: " in (cls.__doc__ or "")
    }
    assert documented == {f.name for f in fields(settings)}


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_budget_is_for_those_that_name_no_steps(name: str) -> None:
    settings = settings_class(name)()
    assert settings.with_budget((3, 4)).to_json() != settings.to_json()
    assert settings.with_budget((3, 4)) == settings.with_budget((3, 4)).with_budget((9,))


def test_labels() -> None:
    labels = [settings_class(name)().label(name) for name in method_names() if name in BUILT_IN]
    assert labels == ["ilo", "csgm", "pulse", "langevin", "multicut", "sparse", "mganprior-20"]


def test_a_choice_or_a_number() -> None:
    ilo = settings_class("ilo")
    assert replace(ilo(), sna_sigma="known").to_json()["sna_sigma"] == "known"
    with pytest.raises(UserError, match="did you mean 'known'"):
        ilo(sna_sigma="knwon")
    with pytest.raises(UserError, match="sna_sigma is 0: valid is known or a number above 0 or null"):
        ilo(sna_sigma=0.0)
