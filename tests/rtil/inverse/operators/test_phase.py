import numpy as np
import pytest
import torch

from ilo import CSGM, ILO
from rtil import seeds
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.operators import FourierPhase, NonlinearOperator, PhaseRetrieval
from rtil.ranges import to_unit


def pictures(img_size, n=2, seed=0):
    return torch.rand(n, *img_size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("img_size", "exposures"), [((3, 8, 8), 3), ((1, 7, 5), 1)])
def test_equals_numpy(img_size, exposures):
    operator, x = PhaseRetrieval(img_size, exposures, seed=3), pictures(img_size)
    masks = np.exp(1j * operator.angles.double().numpy())
    y = operator.A(x).numpy()
    assert y.shape == (2, exposures, *img_size)
    for k in range(exposures):
        np.testing.assert_allclose(y[:, k], np.abs(np.fft.fft2(x.numpy() * masks[k], norm="ortho")), atol=1e-12)


def test_it_is_not_linear_and_keeps_the_norm():
    operator, x = PhaseRetrieval((3, 8, 8), 2), pictures((3, 8, 8))
    assert torch.equal(operator.A(-x), operator.A(x))
    energy = operator.A(x).square().sum((2, 3, 4))
    torch.testing.assert_close(energy, x.square().sum((1, 2, 3))[:, None].expand(2, 2))


def test_vjp_equals_finite_differences():
    operator, (x, e) = PhaseRetrieval((3, 6, 5), 3), pictures((3, 6, 5)).split(1)
    v = torch.randn(1, *operator.measurement_shape).double()
    step = 1e-6
    slope = ((operator.A(x + step * e) - operator.A(x - step * e)) * v).sum() / (2 * step)
    torch.testing.assert_close((operator.A_vjp(x, v) * e).sum(), slope, atol=1e-7, rtol=1e-6)
    assert not operator.A_vjp(0 * x, v).any(), "a phase that is not there counts as 0"


def test_error_near_the_truth_estimates_the_mean_squared_error_of_the_picture():
    x, e = pictures((3, 12, 12)).split(1)
    e = 1e-3 * (e - 0.5)
    e_orthogonal = e - (e * x).sum((2, 3), keepdim=True) / x.square().sum((2, 3), keepdim=True) * x
    operators = [PhaseRetrieval((3, 12, 12), 4, seed) for seed in range(40)]

    def ratio(change):
        errors = [(o.A(x + change) - o.A(x)).square().sum().item() / o.error_normaliser for o in operators]
        return np.mean(errors) / change.square().mean().item()

    assert ratio(e_orthogonal) == pytest.approx(1, rel=0.03)
    assert ratio(1e-3 * x) == pytest.approx(2, rel=1e-6), "brightness counts twice"


def test_measurement_error_is_on_that_scale():
    operator, x = PhaseRetrieval((3, 8, 8), 4), pictures((3, 8, 8))
    y = operator.A(x)
    assert operator.error(x, y).tolist() == [0, 0]
    expected = 4 * (operator.A(x.flip(0)) - y).square().flatten(1).sum(1) / (4 * 192 / 2)
    torch.testing.assert_close(operator.error(x.flip(0), y), expected)


def test_masks_are_nested_over_exposures():
    few, many = (PhaseRetrieval((3, 8, 8), k, seed=5).angles for k in (2, 4))
    assert torch.equal(many[:2], few)
    assert few.min() >= 0
    assert 6 < few.max() < 2 * torch.pi


@pytest.mark.parametrize("name", ["A_adjoint", "A_dagger", "prox_l2"])
def test_what_a_nonlinear_operator_does_not_have(name):
    operator = PhaseRetrieval((3, 8, 8), 4)
    y = operator.A(pictures((3, 8, 8)))
    arguments = (y, y, 1.0) if name == "prox_l2" else (y,)
    with pytest.raises(UserError, match=rf"'phase 4 masks' is nonlinear and has no {name}: .*csgm, pulse, mganprior"):
        getattr(operator, name)(*arguments)


def test_results_are_left_as_they_are():
    operator, x = PhaseRetrieval((3, 8, 8), 2), pictures((3, 8, 8))
    assert isinstance(operator, NonlinearOperator)
    assert operator.consistent(x, operator.A(x.flip(0))) is x


@pytest.mark.parametrize("exposures", [0, -1, 1.5, 2.0])
def test_bad_exposures(exposures):
    with pytest.raises(UserError, match="whole number of 1 or more"):
        PhaseRetrieval((3, 8, 8), exposures)


def test_wrong_shapes():
    operator = PhaseRetrieval((3, 8, 8), 2)
    x, y = pictures((3, 8, 8)), operator.A(pictures((3, 8, 8)))
    with pytest.raises(UserError, match=r"expects \[N, 3, 8, 8\]"):
        operator.A_vjp(y, y)
    with pytest.raises(UserError, match=r"expects \[N, 2, 3, 8, 8\]"):
        operator.A_vjp(x, x)
    with pytest.raises(UserError, match=r"expects \[N, 2, 3, 8, 8\]"):
        operator.check_measurement(x)


@pytest.mark.parametrize("solver", [ILO, CSGM])
def test_planted_pictures_come_nearer_without_their_phases(solver, cache, monkeypatch):
    monkeypatch.setattr("rtil.devices.cpu_multiplies_bfloat16", lambda: False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        G = StyleGAN2Generator(16, {4: 12, 8: 12, 16: 8}, z_dim=24, w_dim=24, mapping_layers=2)
    with torch.no_grad():
        for block in G.blocks:
            block.torgb.weight.mul_(0.3)
        rng = seeds.generator(0, "test/phase")
        x = to_unit(G(G.mapping(G.draw_z(2, rng)), G.draw_noise(2, rng)))
    operator = PhaseRetrieval((3, 16, 16), 4, seed=1)
    steps = (40, 20, 20) if solver is ILO else 60
    seen = []
    found = solver(G, steps=steps, seed=1, geodesic_weight=0).invert(
        operator.A(x), operator, callback=lambda k, step, image: seen.append(image.clone())
    )
    assert (found.score < 0.1 * found.history["measurement"][:, 0]).all()
    first, last = ((image - x).square().mean((1, 2, 3)) for image in (seen[0], found.x))
    assert (last < 0.3 * first).all()
    if solver is ILO:
        torch.testing.assert_close(found.score, 4 * last, rtol=0.3, atol=0)


def test_fourier_phase_equals_numpy_with_zeros_around() -> None:
    x = pictures((3, 8, 12))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (3, 3)))
    expected = np.abs(np.fft.fftshift(np.fft.fft2(padded, norm="ortho"), axes=(-2, -1)))
    y = FourierPhase((3, 8, 12)).A(x)
    assert y.shape == (2, 1, 3, 12, 18)
    np.testing.assert_allclose(y[:, 0], expected, atol=1e-12)


def test_fourier_phase_does_not_tell_half_a_turn_but_other_pictures() -> None:
    operator, (x, other) = FourierPhase((3, 8, 8)), pictures((3, 8, 8)).split(1)
    torch.testing.assert_close(operator.A(x.flip(-2, -1)), operator.A(x))
    assert (operator.A(other) - operator.A(x)).abs().max() > 0.1


def test_fourier_phase_error_near_the_truth_estimates_that_of_the_picture() -> None:
    operator, x = FourierPhase((3, 32, 32)), pictures((3, 32, 32), 1)
    e = 1e-4 * torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    squares = (operator.A(x + e) - operator.A(x)).square().sum() / operator.error_normaliser
    torch.testing.assert_close(squares / e.square().mean(), torch.ones_like(squares), rtol=0.1, atol=0)


def test_more_masks_than_fit_into_memory_are_refused_before_one_is_drawn():
    with pytest.raises(UserError, match=r"phase 1000000000 masks would take about .* GB of memory but .* GB are free"):
        PhaseRetrieval((3, 32, 32), 10**9)
