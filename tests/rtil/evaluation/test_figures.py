import numpy as np
import pytest
import torch
from PIL import Image

from rtil.errors import UserError
from rtil.evaluation.figures import picture_grid, show_measurement
from rtil.inverse.operators.registry import make_operator
from rtil.seeds import generator

SIZE = (3, 16, 16)


def pictures(n=2, size=16):
    return torch.rand(n, 3, size, size, generator=generator(0, "test"))


def read(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def test_grid_holds_the_enlarged_pictures_under_their_labels(tmp_path):
    path = tmp_path / "grid.png"
    columns = {"truth": pictures(), "a label that is far too long for it": 1 - pictures(), "RTIL": pictures() * 2 - 0.5}
    picture_grid(columns, path)
    grid = read(path)
    assert grid.shape == (3, 22 + 2 * 100, 4 + 3 * 100)
    for c, column in enumerate(columns.values()):
        for r in range(2):
            left, top = 4 + 100 * c, 22 + 100 * r
            shown = grid[:, top : top + 96, left : left + 96]
            expected = (column[r].clamp(0, 1) * 255).round().byte()
            assert torch.equal(shown[:, 3::6, 3::6], expected)
            assert torch.equal(shown, torch.kron(expected, torch.ones(6, 6, dtype=torch.uint8)))
    for c in range(3):
        assert (grid[:, :22, 4 + 100 * c : 100 + 100 * c] < 128).any()  # letters
        assert (grid[:, :, 100 * c : 100 * c + 4] == 255).all()  # and none between the columns
    assert [p.name for p in tmp_path.iterdir()] == ["grid.png"]


def test_large_pictures_keep_their_size(tmp_path):
    picture_grid({"x": pictures(1, size=100)}, tmp_path / "grid.png")
    assert read(tmp_path / "grid.png").shape == (3, 22 + 104, 108)


def test_columns_must_agree(tmp_path):
    for columns in ({}, {"a": pictures(2), "b": pictures(3)}, {"a": pictures(2)[:0]}):
        with pytest.raises(UserError, match="columns of one shape"):
            picture_grid(columns, tmp_path / "grid.png")
    assert not list(tmp_path.iterdir())


def test_measurements_can_be_looked_at():
    x = pictures()
    mask = make_operator("inpaint", SIZE, rate=0.3, seed=0)
    shown = show_measurement(mask(x), mask)
    assert torch.equal(shown[:, mask.observed], x[:, mask.observed])
    assert (shown[:, ~mask.observed] == 0.5).all()

    small = make_operator("sr", SIZE, factor=4)
    shown = show_measurement(small(x), small)
    assert shown.shape == x.shape
    assert torch.equal(shown[..., 1::4, 2::4], small(x).clamp(0, 1))

    sensing = make_operator("cs", SIZE, rate=0.2, seed=0)
    shown, adjoint = show_measurement(sensing(x), sensing), sensing.A_adjoint(sensing(x))
    assert shown.amin((1, 2, 3)).tolist() == [0, 0]
    assert shown.amax((1, 2, 3)).tolist() == pytest.approx([1, 1])
    assert np.corrcoef(shown[0].flatten(), adjoint[0].flatten())[0, 1] == pytest.approx(1)
    assert show_measurement(torch.zeros(1, *sensing.measurement_shape), sensing).isfinite().all()

    luma = make_operator("colorize", SIZE)
    assert torch.equal(show_measurement(luma(x), luma), luma(x).repeat(1, 3, 1, 1).clamp(0, 1))

    blurred = make_operator("blur", SIZE, width=1.0)
    assert torch.equal(show_measurement(blurred(x), blurred), blurred(x).clamp(0, 1))

    scanned = make_operator("mri", SIZE, rate=0.5)
    shown, zero_filled = show_measurement(scanned(x), scanned), scanned.A_dagger(scanned(x))
    assert shown.amin((1, 2, 3)).tolist() == [0, 0]
    assert np.corrcoef(shown[0].flatten(), zero_filled[0].flatten())[0, 1] == pytest.approx(1)

    amplitudes = make_operator("phase", SIZE, exposures=2, noise_sigma=0.1)
    shown, y = show_measurement(amplitudes(x), amplitudes), amplitudes(x)
    expected = np.log1p(y[0, 0].clamp(min=0).numpy())
    np.testing.assert_allclose(shown[0].numpy(), (expected - expected.min()) / np.ptp(expected), atol=1e-6)

    noisy = make_operator("denoise", SIZE, sigma=25, seed=0)
    assert torch.equal(show_measurement(noisy(x), noisy), noisy(x))
