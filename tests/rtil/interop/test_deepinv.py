import sys

import pytest
import torch

from rtil.errors import UserError
from rtil.interop.deepinv import to_deepinv
from rtil.inverse.operators import make_operator

OPERATORS = [("cs", {"rate": 0.3}), ("inpaint", {"rate": 0.5, "noise_sigma": 0.1}), ("sr", {"factor": 2})]


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepinv", None)
    monkeypatch.setitem(sys.modules, "deepinv.physics", None)
    with pytest.raises(UserError, match="pip install deepinv"):
        to_deepinv(make_operator("inversion", (3, 8, 8)))


@pytest.mark.parametrize(("task", "settings"), OPERATORS)
def test_physics_is_the_same_operator(task, settings):
    deepinv = pytest.importorskip("deepinv")
    operator = make_operator(task, (3, 8, 8), **settings)
    physics = to_deepinv(operator)
    x = torch.rand(2, 3, 8, 8)
    assert isinstance(physics, deepinv.physics.LinearPhysics)
    assert torch.equal(physics(x), operator(x))
    assert torch.equal(physics.A_adjoint(operator.A(x)), operator.A_adjoint(operator.A(x)))
    assert physics.adjointness_test(x) < 1e-4


@pytest.mark.parametrize(("task", "settings"), OPERATORS)
def test_prox_has_the_meaning_of_deepinv(task, settings):
    pytest.importorskip("deepinv")
    operator = make_operator(task, (3, 8, 8), **settings)
    z = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    y = operator.A(z.flip(0))
    theirs = to_deepinv(operator)
    theirs.tol, theirs.max_iter = 1e-10, 500
    torch.testing.assert_close(theirs.prox_l2(z, y, 2.0), operator.prox_l2(z, y, 2.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("task", "settings"), OPERATORS)
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("solver", ["PGD", "ADMM"])
def test_their_solvers_take_our_operators(task, settings, wrap, solver):
    deepinv = pytest.importorskip("deepinv")
    operator = make_operator(task, (3, 8, 8), **settings)
    x = torch.rand(2, 3, 8, 8)
    y = operator(x)
    model = getattr(deepinv.optim, solver)(
        data_fidelity=deepinv.optim.L2(), prior=deepinv.optim.Tikhonov(), stepsize=0.1, lambda_reg=1e-3, max_iter=40
    )
    estimate = model(y, to_deepinv(operator) if wrap else operator)
    error = (operator.A(estimate) - y).square().sum()
    assert error < 0.5 * y.square().sum()
