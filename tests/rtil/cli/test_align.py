import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.cli.prepare import main as prepare
from rtil.cli.reconstruct import main as reconstruct
from rtil.data import open_dataset
from rtil.data.alignment import crop
from rtil.data.images import read_image
from rtil.data.landmarks import FaceAligner

RUN = "runs/train/00001-stylegan2-rtil-synthetic-16"
SMALL = ["--snapshot", RUN, "--steps", "2", "--device", "cpu", "--out", "o"]
SIZE = (420, 300)


@pytest.fixture
def photo(workplace: Path) -> Image.Image:
    """photos/face.png, a face on grey."""
    face = open_dataset("synthetic", 256, "validation")[57]
    canvas = Image.new("RGB", SIZE, "grey")
    canvas.paste(Image.fromarray(face.permute(1, 2, 0).numpy()), (100, 20))
    Path("photos").mkdir()
    canvas.save("photos/face.png")
    return canvas


def pixels(image: Image.Image | str) -> torch.Tensor:
    picture = Image.open(image) if isinstance(image, str) else image
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def test_prepared_faces_are_aligned_and_shown(photo: Image.Image, capsys: pytest.CaptureFixture[str]) -> None:
    turned = Image.Exif()
    turned[274] = 6  # to be shown turned right by 90 degrees
    photo.transpose(Image.Transpose.ROTATE_90).save("photos/turned.png", exif=turned)
    assert prepare(["photos", "out.zip", "--resolution", "16", "--align", "ffhq", "--snapshot", RUN]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == "out-framing.png: what is expected beside what was prepared"
    assert last.startswith("out.zip: 2 images, 0 skipped")
    with zipfile.ZipFile("out.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
        upright, turned_back = (read_image(archive.read(name), name) for name in ("face.png", "turned.png"))
    assert manifest["align"] == "ffhq"
    aligner = FaceAligner("ffhq")
    assert torch.equal(upright, crop(pixels(photo), aligner.square(pixels(photo), "photo"), 16))
    assert torch.equal(turned_back, upright)
    assert Image.open("out-framing.png").width > 4 * 224


def test_a_picture_without_a_face_is_a_bad_one(photo: Image.Image, capsys: pytest.CaptureFixture[str]) -> None:
    photo.save("photos/again.png")
    Image.new("RGB", (90, 90), "grey").save("photos/wall.png")
    argv = ["photos", "out.zip", "--resolution", "16", "--align", "celeba"]
    assert prepare(argv) == 2
    assert "no face was found in 'wall.png'" in capsys.readouterr().err
    assert not Path("out.zip").exists()
    assert prepare([*argv, "--on_bad_image", "skip"]) == 0
    assert "skipped 'wall.png': no face" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--align", "ffhq"], "align needs a resolution"),
        (["--snapshot", RUN], "snapshot needs a resolution"),
        (["--snapshot", RUN, "--resolution", "32"], "makes pictures of 16 pixels but resolution is 32"),
        (["--align", "ffqh", "--resolution", "16"], "did you mean 'ffhq'"),
    ],
)
def test_a_mistake_in_preparing_is_one_line_and_code_2(
    words: list[str], reason: str, photo: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(["photos", "out.zip", *words]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1
    assert not Path("out.zip").exists()


def test_a_reconstruction_is_put_back_into_the_photograph(photo: Image.Image) -> None:
    assert reconstruct([*SMALL, "--input", "photos/face.png", "--align", "ffhq", "--task", "inversion"]) == 0
    original, placed = pixels(photo), pixels("o/placed.png")
    assert placed.shape == original.shape
    square = FaceAligner("ffhq").square(original, "photo")
    left, top, right, bottom = square.bounds()
    is_inside = torch.zeros(original.shape[1:], dtype=torch.bool)
    is_inside[max(top, 0) : bottom, max(left, 0) : right] = True
    assert torch.equal(placed[:, ~is_inside], original[:, ~is_inside])
    result = pixels("o/reconstruction.png").float()
    again = crop(placed, square, 16).float()
    assert (again - result)[:, 4:-4, 4:-4].abs().mean() < 6  # it was enlarged and shrunk again
    assert (again - crop(original, square, 16).float())[:, 4:-4, 4:-4].abs().mean() > 12
    assert json.loads(Path("o/result.json").read_text())["settings"]["align"] == "ffhq"


def test_a_mask_of_the_photograph_is_moved_along(photo: Image.Image) -> None:
    square = FaceAligner("ffhq").square(pixels(photo), "photo")
    mask = Image.new("L", SIZE, 255)
    right_half = (int(square.middle.real), 0, *SIZE)
    mask.paste(0, right_half)
    mask.save("mask.png")
    argv = ["--input", "photos/face.png", "--align", "ffhq", "--task", "inpaint", "--mask", "mask.png"]
    assert reconstruct([*SMALL, *argv]) == 0
    with_alpha = photo.copy()
    with_alpha.putalpha(mask)
    with_alpha.save("see-through.png")
    argv = ["--input", "see-through.png", "--align", "ffhq", "--task", "inpaint"]
    assert reconstruct([*SMALL[:-1], "p", *argv]) == 0
    for out in ("o", "p"):
        share = json.loads(Path(out, "result.json").read_text())["settings"]
        assert share["align"] == "ffhq"
    assert torch.equal(pixels("o/mask.png"), pixels("p/mask.png"))
    placed = Image.open("p/placed.png")
    assert placed.mode == "RGBA"
    assert placed.getpixel((int(square.middle.real) + 20, int(square.middle.imag)))[3] == 255  # type: ignore[index]
    assert placed.getpixel((SIZE[0] - 1, 2))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--input", "photos/face.png", "--fit"], "fit and align both say how pictures are cropped"),
        (["--input", "y.npy"], "y.npy is no picture, so no face is sought in it"),
        (["--input", "wall.png"], "no face was found in 'wall.png'"),
    ],
)
def test_a_mistake_in_reconstructing_is_one_line_and_code_2(
    words: list[str], reason: str, photo: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("y.npy", np.zeros((3, 16, 16), np.float32))
    Image.new("RGB", (90, 90), "grey").save("wall.png")
    assert reconstruct([*SMALL, *words, "--align", "ffhq", "--task", "inversion"]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1
    assert not Path("o").exists()
