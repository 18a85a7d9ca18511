import pytest
import torch

from rtil.errors import UserError
from rtil.inverse.operators import LinearOperator, NonlinearOperator, make_operator

SIZE = (3, 8, 8)
x = torch.rand(2, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_one_after_the_other():
    inner, outer = make_operator("sr", SIZE, factor=2), make_operator("inpaint", (3, 4, 4), rate=0.5, noise_sigma=0.1)
    both = outer * inner
    assert isinstance(both, LinearOperator)
    torch.testing.assert_close(both.A(x), outer.A(inner.A(x)))
    assert both.adjointness_test() < 1e-12
    assert torch.equal(both.observed, outer.observed)
    assert torch.equal(both(x), outer(inner.A(x)))
    assert both.label == "inpaint 50 % of sr x2, noise 0.1"


def test_with_a_nonlinear_part_it_is_nonlinear():
    inner, outer = make_operator("blur", SIZE, width=1.0), make_operator("phase", SIZE, exposures=2)
    both = outer * inner
    assert isinstance(both, NonlinearOperator)
    v = torch.rand(2, *both.measurement_shape, dtype=torch.float64)
    expected = inner.A_adjoint(outer.A_vjp(inner.A(x), v))
    torch.testing.assert_close(both.A_vjp(x, v), expected)


def test_parameters_reach_both_parts():
    mask = torch.zeros(8, 8)
    mask[:4] = 1
    both = make_operator("blur", SIZE, width=1.0) * make_operator("inpaint", SIZE, rate=0.5)
    assert torch.equal(both.A(x, mask=mask), both.outer.A(x * mask))


def test_what_does_not_fit_is_told():
    sr = make_operator("sr", SIZE, factor=2)
    with pytest.raises(UserError, match=r"measures pictures \(3, 8, 8\) but 'sr x2' makes \(3, 4, 4\)"):
        make_operator("inversion", SIZE) * sr
    with pytest.raises(UserError, match="an operator times float"):
        sr * 2.0
