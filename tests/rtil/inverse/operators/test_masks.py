import numpy as np
import pytest
import torch
from PIL import Image

from rtil.errors import UserError
from rtil.inverse.operators import (
    Inpainting,
    box_inpainting,
    centre_box,
    drawn_box,
    explicit_box,
    file_inpainting,
    make_operator,
    mask_from_file,
    random_inpainting,
    random_pixels,
)
from rtil.inverse.operators.masks import mask_size


@pytest.mark.parametrize(("rate", "count"), [(0.5, 28), (0.01, 1), (0.1, 6), (1.0, 56)])
def test_random_pixels_are_counted_exactly(rate, count):
    assert int(random_pixels(7, 8, rate).sum()) == count


def test_random_pixels_are_uniform_and_nested():
    masks = torch.stack([random_pixels(6, 6, 0.25, seed) for seed in range(400)]).double()
    assert (masks.mean(0) - 0.25).abs().max() < 5 * (0.25 * 0.75 / 400) ** 0.5
    assert (random_pixels(6, 6, 0.5, seed=1) >= random_pixels(6, 6, 0.25, seed=1)).all()


def test_channels_share_the_mask_and_observed_pixels_are_untouched():
    operator = random_inpainting((3, 8, 8), 0.25)
    x = torch.rand(2, 3, 8, 8) + 0.1
    y = operator.A(x)
    kept = y != 0
    assert (kept[:, :1] == kept).all()
    assert torch.equal(y[kept], x[kept])
    assert torch.equal(kept[0], operator.observed)
    assert operator.error_normaliser == float(kept[0].sum()) == 48


def test_unobserved_nan_does_not_leak():
    operator = Inpainting((1, 1, 2), torch.tensor([[True, False]]))
    x = torch.tensor([[[[0.5, float("nan")]]]], requires_grad=True)
    y = operator.A(x)
    assert y.flatten().tolist() == [0.5, 0]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.flatten().tolist() == [1, 0]


def test_noise_falls_on_observed_pixels_only():
    operator = make_operator("inpaint", (3, 8, 8), rate=0.25, noise_sigma=0.5)
    y = operator(torch.zeros(2, 3, 8, 8))
    assert torch.equal(y != 0, operator.observed.expand_as(y))


def test_centre_box_is_centred_and_of_the_asked_size():
    mask = centre_box(8, 12, rate=0.75)
    assert torch.equal(mask, mask.flip(0))
    assert torch.equal(mask, mask.flip(1))
    assert int((~mask).sum()) == 4 * 6
    assert not mask[4, 6]
    assert centre_box(8, 8, rate=1).all()


def test_explicit_box():
    mask = explicit_box(4, 5, top=1, left=2, box_height=2, box_width=3)
    assert mask.int().tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("box", [(-1, 0, 1, 1), (0, 0, 5, 1), (3, 3, 1, 3), (0, 0, -1, 2)])
def test_box_outside_the_picture(box):
    with pytest.raises(UserError, match="does not lie inside 4x5"):
        explicit_box(4, 5, *box)


def write_mask(path, array, mode=None):
    Image.fromarray(np.asarray(array), mode).save(path)
    return path


def test_file_white_is_observed_from_grey_128(tmp_path):
    path = write_mask(tmp_path / "m.png", np.array([[0, 127, 128], [255, 200, 1]], np.uint8))
    assert mask_from_file(path, 2, 3).int().tolist() == [[0, 0, 1], [1, 1, 0]]
    assert make_operator("inpaint", (3, 2, 3), mask=str(path)).error_normaliser == 9


def test_file_modes_give_the_same_mask(tmp_path):
    grey = Image.fromarray((np.arange(12).reshape(3, 4) % 2 * 255).astype(np.uint8))
    masks = []
    for mode in ("L", "1", "RGB", "P"):
        grey.convert(mode).save(tmp_path / f"{mode}.png")
        masks.append(mask_from_file(tmp_path / f"{mode}.png", 3, 4))
    assert all(torch.equal(m, masks[0]) for m in masks)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_is_missing_whatever_the_colour_there(mode, tmp_path):
    grey = np.array([[255, 255, 0], [0, 255, 255]], np.uint8)
    alpha = np.array([[255, 0, 255], [0, 127, 128]], np.uint8)
    picture = Image.merge("LA", [Image.fromarray(band) for band in (grey, alpha)])
    picture = picture.convert("RGBA") if mode == "RGBA" else picture
    picture.save(tmp_path / "mask.png")
    expected = [[True, False, False], [False, False, True]]
    assert mask_from_file(tmp_path / "mask.png", 2, 3).tolist() == expected


def test_nothing_opaque_and_white_is_told(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 255)).save(tmp_path / "black.png")
    Image.new("RGBA", (4, 4), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    for name in ("black", "clear"):
        with pytest.raises(UserError, match=r"white .* and opaque is observed, black or transparent is missing"):
            mask_from_file(tmp_path / f"{name}.png", 4, 4)


def test_file_all_white_is_allowed(tmp_path):
    path = write_mask(tmp_path / "all.png", np.full((4, 4), 255, np.uint8))
    assert file_inpainting((3, 4, 4), path).observed.all()


def test_file_errors(tmp_path):
    black = write_mask(tmp_path / "black.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match="observes no pixel"):
        mask_from_file(black, 4, 4)
    with pytest.raises(UserError, match=r"is 4x4 pixels but the pictures are 4x6"):
        mask_from_file(black, 4, 6)
    assert mask_size(black) == (4, 4)
    sixteen = write_mask(tmp_path / "16.png", np.full((4, 4), 40000, np.uint16))
    with pytest.raises(UserError, match="mode I;16"):
        mask_from_file(sixteen, 4, 4)
    with pytest.raises(UserError, match="cannot be read"):
        mask_from_file(tmp_path / "missing.png", 4, 4)


def test_damaged_files_end_in_a_user_error(tmp_path):
    rng = np.random.default_rng(0)
    whole = write_mask(tmp_path / "m.png", rng.integers(0, 256, (16, 16), np.uint8)).read_bytes()
    path = tmp_path / "damaged.png"
    refusals = []
    for trial in range(60):
        data = bytearray(whole[: rng.integers(len(whole))] if trial % 2 else whole)
        for _ in range(3):
            if data:
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            mask_from_file(path, 16, 16)
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert not any("\n" in message for message in refusals)


@pytest.mark.parametrize(
    "mask", [torch.ones(4, 5, dtype=torch.bool), torch.ones(4, 4), torch.ones(3, 4, 4, dtype=torch.bool)]
)
def test_bad_mask_tensor(mask):
    with pytest.raises(UserError, match=r"must be torch.bool \[4, 4\]"):
        Inpainting((3, 4, 4), mask)


def test_mask_that_observes_nothing():
    with pytest.raises(UserError, match="no pixel"):
        Inpainting((3, 4, 4), torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(UserError, match="no pixel"):
        box_inpainting((3, 4, 4), rate=0.001)


@pytest.mark.parametrize("rate", [0, -1, 1.5, float("nan")])
@pytest.mark.parametrize("build", [random_inpainting, box_inpainting])
def test_bad_rate(build, rate):
    with pytest.raises(UserError, match="0 < rate <= 1"):
        build((3, 8, 8), rate)


def test_a_drawn_hole_has_the_size_of_the_box_and_keeps_its_distance() -> None:
    masks = [drawn_box(64, 48, rate=0.75, seed=seed) for seed in range(200)]
    missing = [(~mask).nonzero() for mask in masks]
    corners = {tuple(places.amin(0).tolist()) for places in missing}
    assert {tuple((places.amax(0) - places.amin(0) + 1).tolist()) for places in missing} == {(32, 24)}
    tops, lefts = zip(*corners, strict=True)
    assert (min(tops), max(tops)) == (4, 64 - 32 - 4), "of 25 places all are drawn in 200 draws, nearly surely"
    assert (min(lefts), max(lefts)) == (3, 48 - 24 - 3)


def test_a_hole_that_leaves_no_margin_is_the_centred_box() -> None:
    assert torch.equal(drawn_box(32, 32, rate=0.01, seed=3), centre_box(32, 32, rate=0.01))
