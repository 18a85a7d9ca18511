import inspect

import pytest
import torch

from ilo import CSGM, ILO
from rtil.errors import UserError
from rtil.evaluation.methods import STEPS, SolverOptions
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.schedules import Ramp
from rtil.inverse.solver import Solver


@pytest.fixture
def small() -> StyleGAN2Generator:
    with torch.random.fork_rng():
        return StyleGAN2Generator(16, {4: 4, 8: 4, 16: 4}, z_dim=8, w_dim=8, mapping_layers=1)


def test_the_defaults_are_ilos_own() -> None:
    own = {
        name: parameter.default
        for function in (Solver.__init__, ILO.__init__)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    options = SolverOptions()
    for name in set(vars(options)) - {"steps", "rounds", "lr", "rampup", "rampdown"}:
        assert getattr(options, name) == own[name], name
    assert options.lr == [own["lr"]]
    assert own["steps"] == STEPS
    assert Ramp(options.rampup, options.rampdown) == Ramp()


def test_every_setting_reaches_the_solver(small: StyleGAN2Generator) -> None:
    options = SolverOptions(
        steps=[3, 4, 5],
        lr=[0.1, 0.2, 0.3],
        noise="first5",
        geodesic_weight=0.5,
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
    solver = options.solver("ilo", small, "heldout", seed=7)
    assert (solver.steps, solver.lrs, solver.noise) == ((3, 4, 5), (0.1, 0.2, 0.3), "first5")
    assert (solver.geodesic_weight, solver.z1_weight, solver.z1_start) == (0.5, 0.25, "normal")
    assert (solver.sphere, solver.start, solver.schedule) == (False, "mean", Ramp(0.2, 0.3))
    assert (solver.compute_dtype, solver.restarts, solver.combination) == (torch.bfloat16, 2, "mean")
    assert (solver.selection, solver.seed) == ("heldout", 7)


def test_csgm_gets_the_sum_of_the_steps(small: StyleGAN2Generator) -> None:
    solver = SolverOptions(steps=[3, 4, 5], lr=[0.1, 0.2, 0.3]).solver("csgm", small, "last", 0)
    assert isinstance(solver, CSGM)
    assert (solver.steps, solver.lrs) == ((12,), (0.1,))


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
    ],
)
def test_steps_per_round(options: SolverOptions, blocks: int, expected: tuple[int, ...]) -> None:
    assert options.steps_per_round(blocks) == expected


def test_wrong_settings_are_named(small: StyleGAN2Generator) -> None:
    with pytest.raises(UserError, match="rounds is 3 but steps has 2"):
        SolverOptions(steps=[1, 2], rounds=3).steps_per_round(4)
    with pytest.raises(UserError, match="did you mean 'csgm'"):
        SolverOptions().solver("csgn", small, "last", 0)
    with pytest.raises(UserError, match="4 rounds"):
        SolverOptions(steps=[1, 2, 3, 4]).solver("ilo", small, "last", 0)
