import cmath
import math

import numpy as np
import pytest
import torch

from rtil.data.alignment import Landmarks, Square, crop, face_square, put_back
from rtil.data.images import fit

UPRIGHT = Landmarks(40 + 50j, 60 + 50j, 42 + 70j, 58 + 70j)
SQUARES = [
    Square(60 + 50j, 20 + 0j),
    Square(60 + 50j, 20 * cmath.exp(0.4j)),
    Square(55.3 + 48.7j, 31.4 * cmath.exp(-0.9j)),
    Square(59 + 51j, 9.5 * cmath.exp(2.5j)),
]


def wave(places: np.ndarray) -> np.ndarray:
    """Three smooth colours [3, h, w] of a plane, 0 to 255, at complex places [h, w]."""
    x, y = places.real, places.imag
    return np.stack([127 + 120 * np.sin(a * x + b * y) for a, b in ((0.07, 0.02), (-0.03, 0.06), (0.05, -0.05))])


def places(height: int, width: int) -> np.ndarray:
    return np.arange(width) + 0.5 + 1j * (np.arange(height)[:, None] + 0.5)


def photo(height: int = 100, width: int = 120) -> torch.Tensor:
    return torch.from_numpy(np.rint(wave(places(height, width))).astype(np.uint8))


def test_square_of_a_face_by_hand():
    assert face_square("ffhq", UPRIGHT) == Square(50 + 52j, 40 + 0j)  # 2 x the distance of the eyes
    long = UPRIGHT._replace(left_mouth=42 + 90j, right_mouth=58 + 90j)
    assert face_square("ffhq", long) == Square(50 + 54j, 72 + 0j)  # 1.8 x that from the eyes to the mouth


def test_square_of_celeba_hq_as_the_paper_writes_it():
    rng = np.random.default_rng(0)
    for _ in range(20):
        e0, e1, m0, m1 = np.array([[40, 50], [60, 50], [43, 75], [57, 75]]) + rng.normal(0, 4, (4, 2))
        across, up = e1 - e0, (e0 + e1) / 2 - (m0 + m1) / 2
        side = max(4.0 * np.linalg.norm(across), 3.6 * np.linalg.norm(up))
        x = across - np.array([up[1], -up[0]])  # up, turned to the right of the picture
        x = x / np.linalg.norm(x)
        middle = (e0 + e1) / 2 - 0.1 * up
        square = face_square("ffhq", Landmarks(*(complex(*point) for point in (e0, e1, m0, m1))))
        np.testing.assert_allclose([square.middle.real, square.middle.imag], middle)
        np.testing.assert_allclose([square.half.real, square.half.imag], x * side / 2)


def test_a_face_at_celebas_places_gives_its_central_square():
    at_place = Landmarks(70.245 + 111.5j, 107.737 + 111.5j, 73.932 + 153.014j, 103.932 + 153.014j)
    square = face_square("celeba", at_place)
    assert square.middle == pytest.approx(89 + 109j)
    assert square.half == pytest.approx(89)


@pytest.mark.parametrize("framing", ["ffhq", "celeba"])
def test_the_square_moves_turns_and_grows_with_the_face(framing):
    square = face_square(framing, UPRIGHT)
    factor, shift = 2.3 * cmath.exp(0.7j), 11 - 5j
    moved = face_square(framing, Landmarks(*(factor * point + shift for point in UPRIGHT)))
    assert moved.middle == pytest.approx(factor * square.middle + shift)
    assert moved.half == pytest.approx(factor * square.half)


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("resolution", [8, 32, 64])
def test_a_crop_shows_what_is_there(square, resolution):
    expected = wave(square.top_left + 2 * square.half * places(resolution, resolution) / resolution)
    found = crop(photo(), square, resolution).numpy()
    assert np.abs(found - expected).max() < 3.5 + square.side / resolution / 2  # what a pixel averages
    assert np.abs(found - expected).mean() < 1.5


def test_upright_crops_are_exact():
    picture = torch.randint(0, 256, (3, 90, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(crop(picture, Square(26 + 36j, 16 + 0j), 32), picture[:, 20:52, 10:42])
    half = crop(picture[:, 13:77], Square(32 + 32j, 32 + 0j), 32)
    assert torch.equal(half[:, 2:-2, 2:-2], fit(picture, 32)[:, 2:-2, 2:-2])  # borders are mirrored, not cut


def test_beyond_the_borders_is_the_mirror_image_or_nothing():
    picture = torch.cat([photo(24, 24), torch.full((1, 24, 24), 255, dtype=torch.uint8)])
    square = Square(4 + 12j, 12 + 0j)  # its left third lies outside
    mirrored = crop(picture, square, 24)
    assert torch.equal(mirrored[:, :, :8], picture[:, :, :8].flip(2))
    assert torch.equal(mirrored[:, :, 8:], picture[:, :, :16])
    alpha = crop(picture, square, 24, outside_is_missing=True)[3]
    assert alpha[:, 8:].eq(255).all()
    assert alpha[:, :8].eq(0).all()


def test_colours_of_transparent_pixels_do_not_spread():
    picture = torch.zeros(4, 40, 40, dtype=torch.uint8)
    picture[0, :, :20] = 200
    picture[3, :, :20] = 255
    picture[1, :, 20:] = 255  # green, but transparent
    shown = crop(picture, Square(20 + 20j, 12 * cmath.exp(0.3j)), 16)
    assert shown[1][shown[3] > 0].max() <= 2


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("enlargement", [0.8, 1, 3])
def test_what_was_cropped_goes_back_to_its_place(square, enlargement):
    original = photo()
    result = crop(original, square, math.ceil(enlargement * square.side))
    back = put_back(original, square, result)
    assert (back.int() - original.int()).abs().max() <= 4


@pytest.mark.parametrize("square", [*SQUARES, Square(-5 + 4j, 30 * cmath.exp(1j)), Square(400 + 0j, 20 + 0j)])
def test_the_outside_stays_bit_by_bit_and_the_inside_is_the_result(square):
    original = photo()
    back = put_back(original, square, torch.full((3, 20, 20), 255, dtype=torch.uint8), feather=0.1)
    unit = (places(100, 120) - square.top_left) / (2 * square.half)
    depth = np.minimum(np.minimum(unit.real, 1 - unit.real), np.minimum(unit.imag, 1 - unit.imag))
    outside, inside = torch.from_numpy(depth <= 0), torch.from_numpy(depth >= 0.1)
    assert torch.equal(back[:, outside], original[:, outside])
    assert back[:, inside].eq(255).all()
    between = ~outside & ~inside
    assert (back[:, between] >= original[:, between]).all()


def test_transparent_pixels_in_the_square_are_filled():
    original = torch.cat([photo(), torch.zeros(1, 100, 120, dtype=torch.uint8)])
    original[3, :, 60:] = 128
    back = put_back(original, Square(60 + 50j, 20 + 0j), torch.full((3, 40, 40), 9, dtype=torch.uint8))
    assert back[:3, 40:60, 50:70].eq(9).all()
    assert back[3, 40:60, 50:70].eq(255).all()
    assert torch.equal(back[:, :, :40], original[:, :, :40])
    assert torch.equal(back[:, :, 80:], original[:, :, 80:])
