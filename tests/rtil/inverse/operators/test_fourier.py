import numpy as np
import pytest
import torch

from rtil.errors import UserError
from rtil.inverse.losses import split_heldout
from rtil.inverse.operators import FourierSampling, mri, random_fourier
from rtil.inverse.operators.fourier import cartesian_lines, multiplicity

SIZES = [(3, 8, 8), (1, 7, 5), (3, 6, 9), (1, 9, 4), (1, 1, 6), (1, 5, 1), (1, 2, 2)]


def pictures(img_size, n=2, seed=0):
    return torch.rand(n, *img_size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def full_mask(observed, width):
    """The mask of all H W frequencies, mirror images included, by index arithmetic alone."""
    H, half = observed.shape
    mask = np.zeros((H, width), bool)
    for row in range(H):
        for column in range(half):
            if observed[row, column]:
                mask[row, column] = mask[-row % H, -column % width] = True
    return mask


@pytest.mark.parametrize("img_size", SIZES)
def test_measures_what_numpys_fft_says(img_size):
    operator, x = random_fourier(img_size, 0.6, seed=1), pictures(img_size)
    spectrum = np.fft.fft2(x.numpy(), norm="ortho")[..., : img_size[2] // 2 + 1]
    y = operator.A(x).numpy()
    _, H, W = img_size
    for row in range(H):
        for column in range(W // 2 + 1):
            measured = y[:, 0, :, row, column] + 1j * y[:, 1, :, row, column]
            own_mirror = (-row % H, -column % W) == (row, column)
            seen = bool(operator.observed[0, 0, row, column])
            expected = spectrum[..., row, column] * (1 if own_mirror else 2**0.5) * seen
            np.testing.assert_allclose(measured, expected, atol=1e-12)


@pytest.mark.parametrize("img_size", SIZES)
@pytest.mark.parametrize("build", [mri, random_fourier])
def test_rows_are_orthonormal_and_the_adjoint_is_the_zero_filled_reconstruction(img_size, build):
    operator, x = build(img_size, 0.5, seed=2), pictures(img_size)
    y = torch.where(operator.observed, torch.randn(2, *operator.measurement_shape).double(), 0)
    torch.testing.assert_close(operator.A(operator.A_adjoint(y)), y, atol=1e-12, rtol=0)
    mask = full_mask(operator.observed[0, 0].numpy(), img_size[2])
    zero_filled = np.fft.ifft2(np.fft.fft2(x.numpy()) * mask)
    np.testing.assert_allclose(zero_filled.imag, 0, atol=1e-12)
    np.testing.assert_allclose(operator.A_adjoint(operator.A(x)).numpy(), zero_filled.real, atol=1e-12)


@pytest.mark.parametrize("img_size", SIZES)
@pytest.mark.parametrize("build", [mri, random_fourier])
def test_full_rate_keeps_everything(img_size, build):
    operator, x = build(img_size, 1.0), pictures(img_size)
    assert operator.error_normaliser == np.prod(img_size)
    torch.testing.assert_close(operator.A_adjoint(operator.A(x)), x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("img_size", SIZES)
def test_multiplicity_counts_every_frequency_once(img_size):
    _, H, W = img_size
    count = multiplicity(H, W)
    assert int(count.sum()) == H * W
    assert full_mask((count > 0).numpy(), W).all()


def test_rate_is_the_observed_fraction():
    for rate in (0.05, 0.25, 0.7):
        operator = random_fourier((3, 16, 16), rate)
        assert 0 <= operator.error_normaliser / 3 - round(rate * 256) <= 1
        lines = full_mask(mri((3, 16, 16), rate).observed[0, 0].numpy(), 16)
        assert (lines == lines[:1]).all()
        assert 0 <= lines[0].sum() - max(1, round(rate * 16)) <= 1


@pytest.mark.parametrize(("rate", "lowest"), [(0.05, 1), (0.1, 1), (0.25, 3), (0.5, 5), (0.9, 9)])
def test_mri_always_holds_the_centre(rate, lowest):
    """A third of the lines, an odd number of them: the mean, and pairs of the next ones."""
    masks = torch.stack([cartesian_lines(32, rate, seed) for seed in range(200)]).double().mean(0)
    centre = lowest // 2 + 1
    assert (masks[:centre] == 1).all()
    assert masks[centre:].max() < 1
    if rate > 0.05:
        assert masks[centre:].min() > 0


def test_frequencies_are_uniform_and_nested():
    masks = torch.stack([random_fourier((1, 6, 6), 0.25, seed).observed[0, 0] for seed in range(500)]).double().mean(0)
    possible = multiplicity(6, 6) > 0
    assert not masks[~possible].any()
    assert (masks[possible] - masks[possible].mean()).abs().max() < 5 * (0.25 * 0.75 / 500) ** 0.5
    small, large = (random_fourier((1, 8, 8), rate, seed=5).observed for rate in (0.1, 0.4))
    assert (large >= small).all()
    assert large.sum() > small.sum()


def test_measurement_error_estimates_the_mean_squared_error_of_the_picture():
    x, other = pictures((3, 6, 6))
    other = 0.7 * other  # brightness differs, so the lowest frequency does most
    operators = [random_fourier((3, 6, 6), 0.25, seed) for seed in range(600)]
    estimates = torch.stack([(o.A(x[None]) - o.A(other[None])).square().sum() / o.error_normaliser for o in operators])
    error = estimates.std() / 600**0.5
    assert abs(estimates.mean() - (x - other).square().mean()) < 3 * error + 0.02 * estimates.mean()
    assert error < 0.1 * estimates.mean()


def test_heldout_frequencies_tell_nothing_of_the_fitted_ones():
    """No mirror image of a held-out frequency is fitted to, and all channels and parts of it are held out."""
    operator = random_fourier((3, 8, 8), 0.9)
    split = split_heldout(operator, operator(pictures((3, 8, 8))), seed=0)
    fit, heldout = (weight.numpy() != 0 for weight in split)
    assert heldout.any()
    assert (heldout | fit == operator.observed.numpy()).all()
    rows = np.eye(192).reshape(192, 3, 8, 8)
    measured = operator.A(torch.from_numpy(rows)).numpy()
    gram = measured[:, heldout].T @ measured[:, fit]
    assert np.abs(gram).max() < 1e-12


def test_bad_masks():
    with pytest.raises(UserError, match=r"torch.bool \[8, 5\]"):
        FourierSampling((3, 8, 8), torch.ones(8, 8, dtype=torch.bool), "mine")
    with pytest.raises(UserError, match=r"torch.float32 .*torch.bool"):
        FourierSampling((3, 8, 8), torch.ones(8, 5), "mine")
    mirrored = torch.zeros(8, 5, dtype=torch.bool)
    mirrored[6, 0] = True
    with pytest.raises(UserError, match="observes no frequency"):
        FourierSampling((3, 8, 8), mirrored, "mine")
