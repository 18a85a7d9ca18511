import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from rtil.errors import UserError
from rtil.inverse.operators import CircularBlur, gaussian_blur, motion_blur
from rtil.inverse.operators.blur import motion_kernel


def pictures(img_size, seed=0):
    return torch.rand(2, *img_size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def offsets(size):
    """Signed offset of each index from index 0, on a circle."""
    return (np.arange(size) + size // 2) % size - size // 2


@pytest.mark.parametrize("img_size", [(3, 16, 16), (1, 9, 14)])
@pytest.mark.parametrize("width", [0.3, 1.0, 2.7, 9.0])
def test_gaussian_equals_scipy(img_size, width):
    x = pictures(img_size)
    expected = ndimage.gaussian_filter(x.numpy(), width, mode="wrap", truncate=4.0, axes=(2, 3))
    np.testing.assert_allclose(gaussian_blur(img_size, width).A(x).numpy(), expected, atol=1e-6)


def test_any_kernel_equals_scipys_convolution():
    kernel = torch.zeros(9, 14, dtype=torch.float64)
    kernel[:2, :3] = torch.rand(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kernel[-2, -1] = 0.4
    centred = np.roll(kernel.numpy(), (2, 1), (0, 1))[:5, :5]  # offsets -2..2, -1..3
    x = pictures((1, 9, 14))
    expected = ndimage.convolve(x[0, 0].numpy(), centred, mode="wrap", origin=(0, -1))
    np.testing.assert_allclose(CircularBlur((1, 9, 14), kernel, "mine").A(x)[0, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 4, math.pi / 2, 2.5])
def test_motion_is_a_straight_path_of_its_length(angle):
    """Moments of a uniform line: no mean, variance L^2 / 12 along it; sharing among pixels adds at most 1 / 4."""
    kernel = motion_kernel(32, 32, 11.0, angle).numpy()
    assert kernel.sum() == pytest.approx(1)
    assert kernel.min() >= 0
    y, x = np.meshgrid(offsets(32), offsets(32), indexing="ij")
    along, across = y * math.sin(angle) + x * math.cos(angle), y * math.cos(angle) - x * math.sin(angle)
    assert (kernel * along).sum() == pytest.approx(0, abs=1e-9)
    assert (kernel * along**2).sum() == pytest.approx(11.0**2 / 12, abs=0.26)
    assert 0 <= (kernel * across**2).sum() < 0.26
    assert np.abs(along[kernel > 0]).max() <= 11 / 2 + math.sqrt(2)


def test_motion_along_a_row_is_a_moving_average():
    kernel = motion_kernel(8, 16, 4.0, 0.0)
    assert torch.allclose(
        kernel[0, [14, 15, 0, 1, 2]], torch.tensor([0.125, 0.25, 0.25, 0.25, 0.125]).double(), atol=1e-3
    )
    assert kernel[1:].abs().max() == 0


def test_angles_are_drawn_evenly_and_shared_by_lengths():
    def angle(seed, length):
        kernel = motion_blur((1, 32, 32), length, seed).kernel.numpy()
        y, x = np.meshgrid(offsets(32), offsets(32), indexing="ij")
        moments = [(kernel * a * b).sum() for a, b in ((x, x), (y, y), (x, y))]
        return 0.5 * math.atan2(2 * moments[2], moments[0] - moments[1]) % math.pi

    angles = np.array([angle(seed, 15.0) for seed in range(60)])
    assert np.histogram(angles, bins=4, range=(0, math.pi))[0].min() >= 6
    assert np.abs(np.sin(angles - [angle(seed, 9.0) for seed in range(60)])).max() < 0.1


@pytest.mark.parametrize("build", [lambda: gaussian_blur((3, 8, 8), 3.0), lambda: motion_blur((3, 8, 8), 5.0)])
def test_flat_pictures_stay_flat(build):
    flat = torch.full((1, 3, 8, 8), 0.7)
    torch.testing.assert_close(build().A(flat), flat, atol=1e-6, rtol=0)


def test_dagger_leaves_lost_frequencies_out():
    operator = gaussian_blur((1, 16, 16), 2.0)
    x = pictures((1, 16, 16))
    y = operator.A(x)
    coarse = operator.A_dagger(y, tol=0.05)
    kept = torch.fft.rfft2(operator.kernel.double()).abs() > 0.05
    assert 0 < kept.sum() < kept.numel()
    expected = torch.fft.irfft2(torch.where(kept, torch.fft.rfft2(x), 0), s=(16, 16))
    torch.testing.assert_close(coarse, expected, atol=1e-9, rtol=0)
    noisy = y + 1e-3 * pictures((1, 16, 16), seed=1)
    assert (operator.A_dagger(noisy, tol=0.05) - coarse).abs().max() < 1e-3 / 0.05


def test_dagger_takes_half_precision():
    operator = gaussian_blur((1, 8, 8), 0.5)
    x = pictures((1, 8, 8)).float()
    assert operator.A_dagger(operator.A(x).half()).dtype == torch.float32
    torch.testing.assert_close(operator.A_dagger(operator.A(x)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [0, -1.0, 8.5, float("nan"), float("inf")])
def test_bad_sizes(size):
    with pytest.raises(UserError, match=r"blur width is .*above 0 and at most 8 pixels"):
        gaussian_blur((3, 8, 12), size)
    with pytest.raises(UserError, match=r"motion length is .*above 0 and at most 8 pixels"):
        motion_blur((3, 8, 12), size)


def test_bad_kernel():
    with pytest.raises(UserError, match=r"shape \[3, 3\] but must be \[8, 8\]"):
        CircularBlur((3, 8, 8), torch.ones(3, 3), "mine")
