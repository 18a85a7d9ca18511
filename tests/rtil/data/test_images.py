import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rtil.data.images import fit, read_image
from rtil.errors import UserError


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_header_of(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return start + encode(Image.fromarray(noise()))[33:]


def test_rgb_is_read_exactly():
    read = read_image(encode(Image.fromarray(noise())), "a.png")
    assert read.dtype == torch.uint8
    np.testing.assert_array_equal(read.permute(1, 2, 0).numpy(), noise())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_saturated(kind):
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    read = read_image(encode(Image.fromarray(values), kind), "a")
    assert read[:, 0].tolist() == [[0, 1, 128, 255]] * 3


def test_grey_palette_and_one_bit_are_converted():
    grey = Image.fromarray(noise()[:, :, 0])
    for image in (grey, grey.convert("P"), grey.convert("1")):
        expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(read_image(encode(image), "a").permute(1, 2, 0).numpy(), expected)


def test_cmyk_jpeg_is_converted():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    r, g, b = read_image(encode(red, "JPEG", quality=95), "a.jpg").float().mean(dim=(1, 2)).tolist()
    assert r > 240
    assert max(g, b) < 15


def test_transparency_is_composited_on_white():
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 0] = 200
    pixels[0, :, 3] = [0, 255, 51]
    read = read_image(encode(Image.fromarray(pixels)), "a.png")
    assert read[:, 0].T.tolist() == [[255, 255, 255], [200, 0, 0], [244, 204, 204]]


def test_transparent_palette_colour_becomes_white():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert read_image(encode(image, transparency=1), "a.png").unique().tolist() == [255]


def test_exif_orientation_is_applied():
    image = Image.fromarray(noise())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    read = read_image(encode(image, exif=exif), "a.png")
    np.testing.assert_array_equal(read.permute(1, 2, 0).numpy(), np.rot90(noise(), -1))


def test_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert read_image(data, "a.webp")[:, 0, 0].tolist() == [255, 0, 0]


GOOD_PNG, GOOD_JPEG = encode(Image.fromarray(noise(40, 40))), encode(Image.fromarray(noise(40, 40)), "JPEG")
BAD = {
    "empty": (b"", "empty"),
    "text": (b"not an image", "no image"),
    "truncated png": (GOOD_PNG[: len(GOOD_PNG) // 2], "truncated"),
    "truncated jpeg": (GOOD_JPEG[: len(GOOD_JPEG) // 2], "runcated"),
    "float tiff": (encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "float"),
    "32-bit tiff": (encode(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "32-bit"),
    "warned bomb": (png_header_of(10_000, 10_000), "more than"),
    "refused bomb": (png_header_of(20_000, 20_000), "more than"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_images_are_named_in_one_line(case):
    data, reason = BAD[case]
    with pytest.raises(UserError, match=reason) as caught:
        read_image(data, "folder/bad\nname.png")
    assert "bad\\nname.png" in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GOOD_PNG, GOOD_JPEG]), st.integers(0, 5000), st.integers(1, 255))
def test_damaged_bytes_raise_nothing_but_user_errors(data, place, flip):
    damaged = bytearray(data)
    damaged[place % len(data)] ^= flip
    with contextlib.suppress(UserError):
        assert read_image(bytes(damaged), "a").shape[0] == 3


def test_fit_is_the_identity_at_the_right_size():
    image = torch.from_numpy(noise(16, 16)).permute(2, 0, 1)
    assert fit(image, 16) is image


@pytest.mark.parametrize(("height", "width"), [(16, 24), (24, 16), (17, 24), (16, 16)])
def test_fit_crops_the_centre(height, width):
    image = torch.from_numpy(noise(height, width)).permute(2, 0, 1)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    assert torch.equal(fit(image, side), image[:, top : top + side, left : left + side])


def test_fit_is_antialiased():
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    small = fit(checks.to(torch.uint8).expand(3, 64, 64), 8).float()
    assert (small - 127.5).abs().max() < 8  # without antialiasing: 0 or 255


@pytest.mark.parametrize(("side", "resolution"), [(64, 32), (50, 16), (8, 32)])
def test_fit_keeps_a_linear_ramp(side, resolution):
    ramp = torch.linspace(20, 230, side).round().to(torch.uint8).expand(3, side, side)
    centres = (torch.arange(resolution) + 0.5) / resolution * side - 0.5
    expected = 20 + centres * 210 / (side - 1)
    inner = slice(resolution // 4, -resolution // 4)
    assert (fit(ramp, resolution)[0, 3].float() - expected)[inner].abs().max() < 2
