"""Solvers by name, one of another package among them, which is installed as pip would do it."""

import sys
from pathlib import Path

import pytest
import torch

from ilo import CSGM
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse import registry
from rtil.inverse.operators import make_operator

PACKAGE = Path(__file__).parents[2] / "fixtures" / "plugin_solver"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PACKAGE)
    monkeypatch.delitem(sys.modules, "rtil_plugin_solver", raising=False)


def test_every_solver_belongs_to_its_settings() -> None:
    for name in registry.BUILT_IN:
        assert registry.solver_class(name).Settings is registry.settings_class(name)


def test_without_packages_there_are_our_own() -> None:
    assert registry.method_names() == ["ilo", "csgm", "pulse", "langevin", "multicut", "sparse", "mganprior"]
    with pytest.raises(UserError, match=r"unknown method 'csgn': valid are ilo, .*did you mean 'csgm'"):
        registry.solver_class("csgn")


def test_a_solver_of_another_package(plugin: None, cache: Path) -> None:
    assert registry.method_names()[-1] == "walk"
    with pytest.raises(UserError, match=r"valid are ilo, .*, walk; did you mean 'walk'"):
        registry.settings_class("wlk")
    settings = registry.settings_class("walk")(stride=0.2)  # type: ignore[call-arg]
    assert settings.to_json()["stride"] == 0.2
    assert settings.label("walk") == "walk"
    with pytest.raises(UserError, match="stride is 0: valid is a number above 0"):
        settings.changed(stride=0.0)
    G = StyleGAN2Generator(16, {4: 4, 8: 4, 16: 4}, z_dim=8, w_dim=8, mapping_layers=1)
    operator = make_operator("inversion", (3, 16, 16))
    y = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    solver = registry.solver_class("walk")
    start = CSGM(G, steps=0).invert(y, operator)
    found = solver(G, settings.with_budget((4, 3)), restarts=2).invert(y, operator)
    assert solver(G, settings).settings_for(operator).precision in ("float32", "bfloat16")
    assert torch.equal(solver(G, steps=0).invert(y, operator).x, start.x)
    assert (found.score < start.score).any()
    assert torch.equal(found.latents.render(G), found.x)
    assert torch.equal(solver(G, steps=0).invert(y, operator, start_from=found.latents).x, found.x)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no_such_module:Solver", r"cannot be loaded \(No module named 'no_such_module'\): mend or remove its package"),
        ("math:Solver", "cannot be loaded"),
        ("math:pi", "is no rtil.inverse.solver.Solver"),
    ],
)
def test_packages_that_are_broken_are_named(
    value: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "broken-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (folder / "entry_points.txt").write_text(f"[rtil.solvers]\nbroken = {value}\nilo = {value}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=words):
        registry.solver_class("broken")
    assert registry.settings_class("ilo").__name__ == "ILOSettings", "ours come first"
    assert registry.method_names().count("ilo") == 1
