import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.data import landmarks, open_dataset
from rtil.data.alignment import Landmarks, crop
from rtil.data.images import read_image
from rtil.data.landmarks import FaceAligner
from rtil.errors import RunError, UserError

MEAN_OF_FFHQ = np.array([192.98 + 239.95j, 318.90 + 240.19j, 201.26 + 371.41j, 313.09 + 371.15j]) / 512
"""Mean landmarks of FFHQ, as shares of the side (the template of facexlib)."""


@pytest.fixture(scope="module")
def aligner() -> FaceAligner:
    return FaceAligner("ffhq")


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    return open_dataset("synthetic", 256, "validation")[57]


def placed(face: torch.Tensor, factor: float, left: int, top: int, size: tuple[int, int]) -> torch.Tensor:
    """A photograph with a face, enlarged, somewhere on grey."""
    side = round(256 * factor)
    image = Image.fromarray(face.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", size, "grey")
    canvas.paste(image, (left, top))
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("factor", "left", "top", "size"),
    [(1, 30, 50, (400, 320)), (0.5, 200, 20, (400, 320)), (4, 500, 100, (2000, 1400)), (1, 900, 700, (2400, 1600))],
)
def test_the_same_face_is_found_wherever_it_is(factor, left, top, size, face, aligner):
    alone = np.array(aligner.landmarks(face, "face"))
    found = np.array(aligner.landmarks(placed(face, factor, left, top, size), "photo"))
    assert np.abs((found - left - 1j * top) / factor - alone).max() < 5  # of a face 125 pixels wide


def test_eyes_and_mouth_of_a_drawn_face(face, aligner):
    left_eye, right_eye, left_mouth, right_mouth = aligner.landmarks(face, "face")
    assert left_eye.real < right_eye.real
    assert left_mouth.real < right_mouth.real
    assert max(left_eye.imag, right_eye.imag) < min(left_mouth.imag, right_mouth.imag)


def test_of_several_faces_the_largest_is_taken(face):
    aligner = FaceAligner("ffhq")
    photo = placed(face, 0.6, 400, 20, (640, 320))
    photo[:, 10:266, 20:276] = face
    alone = aligner.landmarks(face, "alone")
    found = aligner.landmarks(photo, "both.png")
    assert aligner.several == {"both.png": 2}
    assert abs(found.left_eye - 20 - 10j - alone.left_eye) < 5


def test_no_face_is_one_line(aligner):
    with pytest.raises(RunError, match=r"no face was found in 'wall\.png'") as error:
        aligner.square(torch.full((3, 200, 300), 100, dtype=torch.uint8), "wall.png")
    assert "\n" not in str(error.value)


def test_without_the_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(landmarks, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'rtil\[align\]'"):
        FaceAligner("ffhq")


def test_real_faces_come_to_where_ffhq_has_them(shared, aligner):
    found: list[Landmarks] = []
    with zipfile.ZipFile(shared / "data" / "faces-test-128.zip") as archive:
        for name in [name for name in archive.namelist() if name.endswith((".png", ".jpg"))][:16]:
            photo = read_image(archive.read(name), name)
            found.append(aligner.landmarks(crop(photo, aligner.square(photo, name), 256), name))
    mean = np.array(found).mean(0) / 256
    assert np.abs(mean - MEAN_OF_FFHQ).max() < 0.02
