import pytest

from rtil.errors import UserError
from rtil.evaluation.candidates import Variant, candidates_of_methods, candidates_of_variants
from rtil.evaluation.methods import SolverOptions


def _variant(method: str = "ilo", **options: object) -> Variant:
    return Variant(method, SolverOptions(**options), ["measurement"])  # type: ignore[arg-type]


def test_methods_share_their_settings() -> None:
    options = SolverOptions(codes=[1, 20])
    found = candidates_of_methods(options, ["csgm", "mganprior"], ["measurement", "last"])
    assert [(c.series.label, c.selection) for c in found] == [
        (label, selection) for label in ("csgm", "mganprior-1", "mganprior-20") for selection in ("measurement", "last")
    ]
    assert all(c.options is options and c.series.name is None for c in found)


def test_variants_are_called_by_their_names() -> None:
    variants = {"a": _variant("csgm"), "b": _variant(steps=[3]), "few": _variant("mganprior", codes=[2])}
    found = candidates_of_variants({**variants, "m": _variant("mganprior", codes=[1, 20])})
    assert [(c.series.label, c.series.method, c.series.codes) for c in found] == [
        ("a", "csgm", None),
        ("b", "ilo", None),
        ("few", "mganprior", 2),
        ("m-1", "mganprior", 1),
        ("m-20", "mganprior", 20),
    ]
    assert found[1].options.steps == [3]


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({}, "there is none"),
        ({"a b": _variant()}, "variant name 'a b' is not valid"),
        ({"-a": _variant()}, "variant name '-a' is not valid"),
        ({"a" * 17: _variant()}, "16 at most"),
        ({"linear": _variant()}, "without checkpoint"),
        ({"tv": _variant()}, "without checkpoint"),
        ({"csgm": _variant("ilo")}, "variant 'csgm' is of method ilo"),
        ({"a": _variant("iloo")}, "variant 'a': unknown method 'iloo'.*did you mean 'ilo'"),
        ({"a": _variant("mganprior", codes=[0])}, "variant 'a': codes is 0"),
        ({"m-1": _variant(), "m": _variant("mganprior", codes=[1, 2])}, "two are called 'm-1'"),
    ],
)
def test_what_is_no_variant(variants: dict[str, Variant], message: str) -> None:
    with pytest.raises(UserError, match=message):
        candidates_of_variants(variants)
