import pytest
import torch

from rtil.errors import Notice, UserError
from rtil.inverse.operators import Identity, PartialCirculant
from rtil.inverse.operators.conjugate_gradient import conjugate_gradient


def test_conjugate_gradient_equals_a_direct_solve():
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, dtype=torch.float64, generator=rng)
    system = root @ root.T + torch.eye(12, dtype=torch.float64)
    b = torch.randn(4, 12, dtype=torch.float64, generator=rng)
    x = conjugate_gradient(lambda v: v @ system, b, tolerance=1e-12, max_steps=100)
    torch.testing.assert_close(x, torch.linalg.solve(system, b.T).T, atol=1e-9, rtol=0)


def test_conjugate_gradient_warns_when_out_of_steps():
    system = torch.diag(torch.logspace(0, 4, 10, dtype=torch.float64))
    with pytest.warns(Notice, match="left 1 of 2 images above the tolerance"):
        conjugate_gradient(
            lambda v: v @ system, torch.eye(10, dtype=torch.float64)[:2] + torch.tensor([[0], [1]]), 1e-10, 3
        )


def test_dagger_converges_in_float32():
    operator = PartialCirculant((3, 16, 16), 0.25)
    y = operator.A(torch.rand(3, 3, 16, 16))
    torch.testing.assert_close(operator.A(operator.A_dagger(y)), y, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 8, 9), (1, 1, 8, 8), (2, 192)])
def test_picture_of_another_shape(shape):
    with pytest.raises(UserError, match=r"pictures have shape \[.*expects \[N, 3, 8, 8\]"):
        PartialCirculant((3, 8, 8), 0.1).A(torch.zeros(shape))


def test_bytes_are_refused():
    with pytest.raises(UserError, match=r"torch.uint8 but must be floating point"):
        Identity((3, 8, 8)).A(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_measurement_of_another_shape():
    operator = PartialCirculant((3, 8, 8), 0.1)
    for check in (operator.check_measurement, operator.A_adjoint, operator.A_dagger):
        with pytest.raises(UserError, match=r"shape \[1, 20\] but the operator expects \[N, 19\]"):
            check(torch.zeros(1, 20))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_measurement_that_is_not_finite(bad):
    y = torch.zeros(3, 3, 8, 8)
    y[1, 0, 0, 0] = bad
    operator = Identity((3, 8, 8))
    for check in (operator.check_measurement, operator.A_dagger, lambda t: operator.prox_l2(t, t, 1.0)):
        with pytest.raises(UserError, match=r"NaN or infinity in images \[1\]"):
            check(y)


def test_measurement_on_another_device():
    with pytest.raises(UserError, match="on meta but the operator is on cpu"):
        Identity((3, 8, 8)).check_measurement(torch.zeros(1, 3, 8, 8, device="meta"))


@pytest.mark.parametrize("img_size", [(8, 8), (3, 0, 8), (3, 8, -1), (3, 8.0, 8)])
def test_bad_img_size(img_size):
    with pytest.raises(UserError, match="img_size"):
        Identity(img_size)


def test_negative_gamma():
    z = torch.zeros(1, 3, 8, 8)
    with pytest.raises(UserError, match="gamma"):
        Identity((3, 8, 8)).prox_l2(z, z, -1.0)
