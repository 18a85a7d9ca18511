import sys

import pytest
import torch

from ilo import ILO
from rtil.errors import UserError
from rtil.evaluation.metrics import psnr
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.interop.deepinv import as_reconstructor, to_deepinv
from rtil.inverse.operators import make_operator

OPERATORS = [("cs", {"rate": 0.3}), ("inpaint", {"rate": 0.5, "noise_sigma": 0.1}), ("sr", {"factor": 2})]


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepinv", None)
    monkeypatch.setitem(sys.modules, "deepinv.physics", None)
    monkeypatch.delitem(sys.modules, "rtil.interop.deepinv_classes", raising=False)
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


@pytest.mark.parametrize(("task", "settings"), OPERATORS)
def test_norms_and_products_are_those_of_deepinv(task, settings):
    pytest.importorskip("deepinv")
    operator = make_operator(task, (3, 8, 8), **settings)
    theirs, x = to_deepinv(operator), torch.rand(2, 3, 8, 8)
    y = operator.A(x)
    assert torch.equal(operator.A_adjoint_A(x), theirs.A_adjoint_A(x))
    assert torch.equal(operator.A_A_adjoint(y), theirs.A_A_adjoint(y))
    exact = torch.linalg.matrix_norm(operator.A(torch.eye(192).view(192, 3, 8, 8)).flatten(1), ord=2)
    accurate = {"max_iter": 2000, "tol": 1e-7, "verbose": False}
    for physics in (operator, theirs):
        assert float(physics.compute_sqnorm(x[0:1], **accurate)) == pytest.approx(float(exact) ** 2, rel=0.01)
        assert float(physics.compute_norm(x[0:1], squared=False, **accurate)) == pytest.approx(float(exact), rel=0.01)


def test_a_nonlinear_operator_is_a_nonlinear_physics():
    deepinv = pytest.importorskip("deepinv")
    operator = make_operator("phase", (3, 8, 8), exposures=2)
    physics, x = to_deepinv(operator), torch.rand(2, 3, 8, 8)
    assert isinstance(physics, deepinv.physics.Physics)
    assert not isinstance(physics, deepinv.physics.LinearPhysics)
    v = torch.rand(2, *operator.measurement_shape)
    by_theirs = deepinv.physics.Physics(A=lambda x, **_: operator.A(x)).A_vjp(x, v)
    torch.testing.assert_close(physics.A_vjp(x, v), by_theirs)


def test_update_and_clone_reach_the_operator_inside():
    pytest.importorskip("deepinv")
    operator = make_operator("inpaint", (3, 8, 8), rate=0.5, noise_sigma=0.1)
    physics, x = to_deepinv(operator), torch.rand(2, 3, 8, 8)
    copy = physics.clone()
    copy.update(mask=torch.ones(1, 1, 8, 8), sigma=0.0)
    assert torch.equal(copy(x), x)
    assert not torch.equal(physics(x), x)
    physics.update(mask=torch.ones(1, 1, 8, 8), sigma=0.0)
    assert torch.equal(operator(x), x)


@pytest.fixture
def reconstructor():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(16, {4: 4, 8: 4, 16: 4}, z_dim=8, w_dim=8, mapping_layers=1)
    pytest.importorskip("deepinv")
    return as_reconstructor(ILO(generator, steps=(4, 2), lr=0.3, geodesic_weight=0))


def test_a_solver_is_a_reconstructor_under_no_grad(reconstructor):
    deepinv = pytest.importorskip("deepinv")
    assert isinstance(reconstructor, deepinv.models.Reconstructor)
    operator = make_operator("inpaint", (3, 16, 16), rate=0.5)
    y = operator(torch.rand(2, 3, 16, 16))
    expected = reconstructor.solver(y, operator)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert torch.equal(reconstructor(y, to_deepinv(operator)), expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("own", [True, False])
def test_deepinvs_test_and_metrics_run_ilo(reconstructor, own):
    deepinv = pytest.importorskip("deepinv")
    x = torch.rand(4, 3, 16, 16)
    made = make_operator("sr", (3, 16, 16), factor=2)
    physics = made if own else deepinv.physics.Downsampling(filter="bicubic", factor=2)
    loader = torch.utils.data.DataLoader(deepinv.datasets.TensorDataset(x=x), batch_size=2)
    quiet = {"verbose": False, "show_progress_bar": False, "compare_no_learning": False}
    metrics = [deepinv.metric.PSNR(), deepinv.metric.SSIM()]
    scores = deepinv.test(reconstructor, loader, physics, online_measurements=True, metrics=metrics, **quiet)
    found = torch.cat([reconstructor(physics(batch), physics) for batch in x.split(2)])
    assert scores["PSNR"] == pytest.approx(float(psnr(found, x).mean()), abs=1e-3)
    assert scores["SSIM"] < 1
