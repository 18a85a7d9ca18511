"""One suite of checks for every task of the registry, odd, even, grey and non-square sizes alike.

Tests of ``operator`` are for linear tasks, those of ``any_operator`` for all.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rtil.inverse.operators import OPERATORS, LinearOperator, Operator, make_operator

LINEAR = {
    "cs": ("cs", (3, 8, 8), {"rate": 0.25}),
    "cs-odd": ("cs", (3, 7, 5), {"rate": 0.4}),
    "cs-full-odd": ("cs", (1, 5, 5), {"rate": 1.0}),
    "cs-one-measurement": ("cs", (1, 2, 2), {"rate": 0.01}),
    "cs-noise": ("cs", (3, 8, 8), {"rate": 0.25, "noise_sigma": 0.1}),
    "inpaint": ("inpaint", (3, 8, 8), {"rate": 0.5}),
    "inpaint-odd": ("inpaint", (3, 7, 5), {"rate": 0.1, "noise_sigma": 0.1}),
    "box": ("box", (3, 8, 9), {"rate": 0.75}),
    "hole": ("hole", (3, 8, 9), {"rate": 0.75}),
    "sr": ("sr", (3, 8, 8), {"factor": 4}),
    "sr-odd": ("sr", (1, 9, 15), {"factor": 3}),
    "denoise": ("denoise", (3, 7, 5), {"sigma": 25}),
    "colorize": ("colorize", (3, 7, 5), {}),
    "colorize-noise": ("colorize", (3, 8, 8), {"noise_sigma": 0.1}),
    "inversion": ("inversion", (3, 7, 5), {}),
    "blur": ("blur", (3, 8, 8), {"width": 0.8}),
    "blur-odd": ("blur", (1, 9, 5), {"width": 0.6, "noise_sigma": 0.1}),
    "blur-wide": ("blur", (3, 4, 6), {"width": 4.0}),
    "motion": ("motion", (3, 8, 8), {"length": 3.0}),
    "motion-odd": ("motion", (1, 7, 5), {"length": 2.5, "noise_sigma": 0.1}),
    "gaussian": ("gaussian", (3, 8, 8), {"rate": 0.25}),
    "gaussian-odd": ("gaussian", (1, 5, 7), {"rate": 0.5, "noise_sigma": 0.1}),
    "mri": ("mri", (3, 8, 8), {"rate": 0.5}),
    "mri-odd": ("mri", (3, 7, 5), {"rate": 0.4, "noise_sigma": 0.1}),
    "mri-full": ("mri", (1, 6, 8), {"rate": 1.0}),
    "fourier": ("fourier", (3, 8, 8), {"rate": 0.25}),
    "fourier-odd": ("fourier", (1, 9, 5), {"rate": 0.4, "noise_sigma": 0.1}),
    "fourier-full-odd": ("fourier", (1, 5, 6), {"rate": 1.0}),
}
NONLINEAR = {
    "phase": ("phase", (3, 8, 8), {"exposures": 4}),
    "phase-odd": ("phase", (1, 7, 5), {"exposures": 1, "noise_sigma": 0.1}),
    "fourier_phase": ("fourier_phase", (3, 8, 8), {}),
    "fourier_phase-odd": ("fourier_phase", (1, 7, 5), {"noise_sigma": 0.1}),
    "hdr": ("hdr", (3, 8, 8), {}),
}
CASES = LINEAR | NONLINEAR
DRAWN = ["cs", "cs-odd", "inpaint", "inpaint-odd", "motion", "gaussian", "gaussian-odd", "mri", "fourier", "phase"]


def build(case: str, seed: int = 0) -> Operator:
    task, img_size, settings_ = CASES[case]
    return make_operator(task, img_size, seed=seed, **settings_)


def images(operator: Operator, count: int = 5, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, *operator.img_size, dtype=dtype, generator=rng)


def measurements(operator: Operator, count: int = 5) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, *operator.measurement_shape, dtype=torch.float64, generator=rng)


def dense(operator: LinearOperator) -> torch.Tensor:
    """The matrix [M, n] of A, column by column."""
    n = operator.img_size[0] * operator.img_size[1] * operator.img_size[2]
    return operator.A(torch.eye(n, dtype=torch.float64).unflatten(1, operator.img_size)).flatten(1).T


@pytest.fixture(params=LINEAR)
def operator(request) -> Operator:
    return build(request.param)


@pytest.fixture(params=CASES)
def any_operator(request) -> Operator:
    return build(request.param)


def test_the_suite_covers_every_task():
    assert {task for task, _, _ in CASES.values()} == set(OPERATORS)


@pytest.mark.parametrize("case", CASES)
def test_the_registry_tells_which_are_linear(case):
    assert OPERATORS[CASES[case][0]].linear == isinstance(build(case), LinearOperator) == (case in LINEAR)


def test_shapes(any_operator):
    x = images(any_operator)
    y = any_operator.A(x)
    assert tuple(y.shape) == (5, *any_operator.measurement_shape)
    assert any_operator.A_vjp(x, y).shape == x.shape
    assert tuple(any_operator.observed.shape) == any_operator.measurement_shape
    assert any_operator.observed.dtype == torch.bool
    any_operator.check_measurement(any_operator(x))


def test_linear(operator):
    x, other = images(operator, seed=0), images(operator, seed=1)
    torch.testing.assert_close(
        operator.A(2 * x - 3 * other), 2 * operator.A(x) - 3 * operator.A(other), atol=1e-12, rtol=0
    )


def test_adjoint(operator):
    x, y = images(operator), measurements(operator)
    left = (operator.A(x) * y).flatten(1).sum(1)
    right = (x * operator.A_adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, atol=1e-10, rtol=1e-10)
    assert operator.adjointness_test() < 1e-10


def test_vjp_is_the_gradient(any_operator):
    x, v = images(any_operator).requires_grad_(), measurements(any_operator)
    (gradient,) = torch.autograd.grad((any_operator.A(x) * v).sum(), x)
    torch.testing.assert_close(gradient, any_operator.A_vjp(x, v), atol=1e-12, rtol=0)


def test_gradient_of_the_adjoint_is_the_operator(operator):
    x, y = images(operator), measurements(operator).requires_grad_()
    (gradient,) = torch.autograd.grad((operator.A_adjoint(y) * x).sum(), y)
    torch.testing.assert_close(gradient, operator.A(x), atol=1e-12, rtol=0)


def test_dagger_is_least_squares(operator):
    y = measurements(operator)
    expected = y.flatten(1) @ torch.linalg.pinv(dense(operator), rtol=1e-10).T
    x = operator.A_dagger(y, tol=1e-12)
    torch.testing.assert_close(x.flatten(1), expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.3, 10.0])
def test_prox_l2_is_optimal(operator, gamma):
    z, y = images(operator), measurements(operator)
    x = operator.prox_l2(z, y, gamma, tol=1e-12)
    gradient = gamma * operator.A_adjoint(operator.A(x) - y) + x - z
    assert gradient.abs().max() < 1e-9
    matrix = dense(operator)
    system = torch.eye(matrix.shape[1], dtype=torch.float64) + gamma * matrix.T @ matrix
    expected = torch.linalg.solve(system, (z.flatten(1) + gamma * y.flatten(1) @ matrix).T).T
    torch.testing.assert_close(x.flatten(1), expected, atol=1e-8, rtol=0)


def test_prox_l2_takes_one_gamma_per_image(operator):
    z, y = images(operator, 2), measurements(operator, 2)
    both = operator.prox_l2(z, y, torch.tensor([0.5, 4.0], dtype=torch.float64).reshape(2, 1, 1, 1))
    torch.testing.assert_close(both[1:], operator.prox_l2(z[1:], y[1:], 4.0), atol=1e-12, rtol=0)


def test_batch_mates_do_not_matter(operator):
    x = images(operator)
    y = operator(x)
    for apply, t in (
        (operator.A, x),
        (operator.A_adjoint, y),
        (lambda t: operator.prox_l2(operator.A_adjoint(t), t, 2.0), y),
    ):
        alone = torch.cat([apply(t[i : i + 1]) for i in range(5)])
        torch.testing.assert_close(apply(t), alone, atol=1e-13, rtol=1e-13)


def test_noise_belongs_to_the_image(any_operator):
    x, names = images(any_operator), list("abcde")
    alone = torch.cat([any_operator(x[i : i + 1], names[i : i + 1]) for i in reversed(range(5))]).flip(0)
    torch.testing.assert_close(any_operator(x, names), alone, atol=1e-13, rtol=1e-13)
    noise = any_operator(x, names) - any_operator.A(x)
    assert not noise[:, ~any_operator.observed].any()


def test_dagger_solves_each_image_on_its_own(operator):
    y = measurements(operator)
    y[2] *= 1e6
    y[3] = 0
    alone = torch.cat([operator.A_dagger(y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(operator.A_dagger(y), alone, atol=1e-9, rtol=1e-9)
    assert not operator.A_dagger(y)[3].any()


@pytest.mark.parametrize("case", CASES)
def test_same_seed_same_operator(case):
    x = images(build(case))
    assert torch.equal(build(case, seed=3)(x), build(case, seed=3)(x))


@pytest.mark.parametrize("case", DRAWN)
def test_other_seed_other_operator(case):
    x = images(build(case))
    assert not torch.equal(build(case, seed=3).A(x), build(case, seed=4).A(x))


@pytest.mark.parametrize("case", CASES)
def test_state_dict_round_trip(case):
    source, target = build(case, seed=3), build(case, seed=4)
    target.load_state_dict(source.state_dict())
    x = images(source)
    assert torch.equal(source.A(x), target.A(x))
    assert torch.equal(source.observed, target.observed)


def test_precision_follows_the_picture(any_operator):
    x = images(any_operator)
    exact = any_operator.A(x)
    assert exact.dtype == torch.float64
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)):
        y = any_operator.A(x.to(dtype))
        assert y.dtype == torch.float32
        torch.testing.assert_close(y.double(), exact, atol=tolerance * float(exact.abs().max()) * 3, rtol=0)
        assert any_operator.A_vjp(x.to(dtype), y.to(dtype)).dtype == torch.float32


def test_converting_the_module_keeps_the_operator(any_operator):
    x = images(any_operator)
    before = any_operator.A(x)
    torch.testing.assert_close(any_operator.to(torch.float64).A(x), before, atol=1e-12, rtol=0)


def test_views_are_accepted(any_operator):
    x = images(any_operator)
    strided = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert not strided.is_contiguous()
    torch.testing.assert_close(any_operator.A(strided), any_operator.A(x), atol=1e-13, rtol=0)


def test_empty_batch(any_operator):
    """The FFT behind several tasks refuses one, on some processors and in some releases."""
    x = images(any_operator, 0).requires_grad_()
    y = any_operator(x)
    assert tuple(y.shape) == (0, *any_operator.measurement_shape)
    assert any_operator.A_vjp(x, y).shape == x.shape
    assert torch.autograd.grad(y.sum(), x)[0].shape == x.shape
    if isinstance(any_operator, LinearOperator):
        assert any_operator.A_dagger(y.detach()).shape == x.shape


def test_noise_free_forward_is_A():
    for case in ("cs", "inpaint", "box", "sr", "colorize", "inversion", "blur", "gaussian", "mri", "fourier", "phase"):
        x = images(build(case))
        assert torch.equal(build(case)(x), build(case).A(x))


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    rate=st.floats(0, 1, exclude_min=True),
    seed=st.integers(0, 2**31),
    task=st.sampled_from(["cs", "inpaint", "box", "gaussian", "mri", "fourier"]),
)
def test_any_size_and_rate(channels, height, width, rate, seed, task):
    pixels = height * width
    if task == "box" and round((1 - rate) ** 0.5 * height) * round((1 - rate) ** 0.5 * width) == pixels:
        return  # nothing would be observed, an error of its own
    operator = make_operator(task, (channels, height, width), rate=rate, seed=seed)
    assert operator.adjointness_test(seed) < 1e-10
    if task in ("cs", "gaussian"):
        assert operator.measurement_shape == (max(1, round(rate * channels * pixels)),)
        assert operator.error_normaliser == channels * pixels
    elif task == "inpaint":
        assert operator.error_normaliser == channels * max(1, round(rate * pixels))
    elif task == "fourier":
        assert 0 <= operator.error_normaliser / channels - max(1, round(rate * pixels)) <= 1
    elif task == "mri":
        assert 0 <= operator.error_normaliser / channels - height * max(1, round(rate * width)) <= height
