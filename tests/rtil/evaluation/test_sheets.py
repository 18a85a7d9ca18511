from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.evaluation.sheets import (
    TINT,
    Panel,
    frequencies,
    measurement_panel,
    observed_panel,
    panel_side,
    spread_panel,
    tinted,
    write_sheet,
)
from rtil.inverse.operators import FourierSampling, make_operator

SIZE = (3, 16, 16)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(0))


def _holds(sheet: np.ndarray, part: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(sheet, part.shape)
    first = np.argwhere((sheet[..., :] == part[0, 0]).all(-1))
    rows, columns = windows.shape[:2]
    return any(np.array_equal(windows[i, j, 0], part) for i, j in first if i < rows and j < columns)


def test_a_sheet_holds_every_picture_enlarged_pixel_by_pixel(x: torch.Tensor, tmp_path: Path) -> None:
    small = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
    write_sheet(tmp_path / "sheet.png", "a title", "and more", [Panel("measurement", small), Panel("x", x, "caption")])
    with Image.open(tmp_path / "sheet.png") as picture:
        sheet = np.array(picture)
    side = panel_side(16)
    for panel in (small, x):
        pixels = (panel * 255).round().byte().permute(1, 2, 0).numpy()
        factor = side // len(pixels)
        assert _holds(sheet, pixels.repeat(factor, 0).repeat(factor, 1))


def test_long_texts_and_photos_of_any_size_stay_inside(x: torch.Tensor, tmp_path: Path) -> None:
    widths = []
    for photo in (torch.zeros(3, 900, 1300), torch.zeros(3, 5, 3), torch.zeros(3, 64, 84)):
        panels = [Panel("input", photo, "word " * 90), Panel("x", x)]
        write_sheet(tmp_path / "sheet.png", "long " * 90, "longer " * 90, panels)
        with Image.open(tmp_path / "sheet.png") as picture:
            sheet = np.array(picture)
        assert (sheet[:, :18] == 255).all()
        assert (sheet[:, -18:] == 255).all()
        widths.append(sheet.shape)
    assert len(set(widths)) == 1


@pytest.mark.parametrize(
    ("task", "parameters", "title"),
    [
        ("cs", {"rate": 0.1}, "measurement (adjoint)"),
        ("mri", {"rate": 0.3}, "measurement (adjoint)"),
        ("phase", {"exposures": 2}, "measurement (log amplitude)"),
        ("fourier_phase", {}, "measurement (log amplitude)"),
        ("sr", {"factor": 4}, "measurement"),
        ("colorize", {}, "measurement"),
        ("hdr", {}, "measurement"),
    ],
)
def test_a_measurement_says_how_it_is_shown(
    task: str, parameters: dict[str, float], title: str, x: torch.Tensor
) -> None:
    operator = make_operator(task, SIZE, **parameters)  # type: ignore[arg-type]
    panel = measurement_panel(operator.A(x[None])[0], operator)
    assert panel.title == title
    assert panel.picture.shape[0] == 3
    assert panel.caption == " x ".join(map(str, operator.measurement_shape)) + " numbers"


def test_missing_pixels_are_tinted_and_no_others(x: torch.Tensor) -> None:
    operator = make_operator("box", SIZE, rate=0.75)
    panel = observed_panel(operator, x)
    assert panel is not None
    assert panel.caption == "75 % observed, tinted missing"
    assert torch.equal(panel.picture[operator.observed], x[operator.observed])
    missing = ~operator.observed[0]
    tint = torch.tensor(TINT)[:, None]
    distance = (panel.picture[:, missing] - tint).abs()
    assert (distance <= 0.41 * (x[:, missing] - tint).abs() + 1e-6).all()
    assert torch.equal(tinted(x, torch.zeros(16, 16, dtype=torch.bool)), x)


def test_where_every_number_tells_of_all_there_is_no_panel(x: torch.Tensor) -> None:
    assert observed_panel(make_operator("cs", SIZE, rate=0.1), x) is None
    assert observed_panel(make_operator("inversion", SIZE), x) is None


@pytest.mark.parametrize("task", ["mri", "fourier"])
@pytest.mark.parametrize("size", [(3, 16, 16), (3, 9, 12), (3, 8, 7)])
def test_observed_frequencies_are_those_of_the_full_transform(task: str, size: tuple[int, int, int]) -> None:
    operator = make_operator(task, size, rate=0.3, seed=2)
    assert isinstance(operator, FourierSampling)
    x = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    seen = torch.fft.fft2(operator.A_adjoint(operator.A(x)))[0, 0].abs() > 1e-4
    assert torch.equal(frequencies(operator), torch.fft.fftshift(seen))


def test_spread_is_black_where_nothing_varies_and_brightest_where_most_does() -> None:
    spread = torch.zeros(SIZE)
    spread[:, 2, 3], spread[:, 5, 5] = 0.2, 0.1
    panel = spread_panel(spread)
    light = panel.picture.sum(0)
    assert light.argmax() == 2 * 16 + 3
    assert light[0, 0] < 0.1 < light[5, 5] < light[2, 3]
    assert "0.2" in panel.caption
    assert torch.isfinite(spread_panel(torch.zeros(SIZE)).picture).all()
