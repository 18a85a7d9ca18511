import pytest
import torch
import torch.nn.functional as F

from rtil.data import open_dataset
from rtil.data.face_parameters import draw_parameters
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.errors import UserError


@pytest.mark.parametrize("resolution", [1, 17, 32])
def test_shape_and_type(resolution):
    faces = SyntheticFaces(resolution, "train").load([0, 1])
    assert faces.shape == (2, 3, resolution, resolution)
    assert faces.dtype == torch.uint8


def test_sizes():
    assert [len(open_dataset("synthetic", 8, s)) for s in ("train", "validation", "test")] == [20000, 1000, 1000]


def test_a_face_does_not_depend_on_its_batch():
    ds = SyntheticFaces(31, "train")  # an odd size, so that rows end inside a vector register
    together = ds.load(range(40))
    assert all(torch.equal(together[i], ds[i]) for i in (0, 17, 39))
    assert torch.equal(ds.load([39, 3, 3]), together[[39, 3, 3]])


def test_faces_depend_on_seed_split_and_index():
    faces = [SyntheticFaces(8, "train"), SyntheticFaces(8, "train", 1), SyntheticFaces(8, "validation")]
    faces = [face.flatten().tolist() for ds in faces for face in ds.load(range(50))]
    assert len({tuple(face) for face in faces}) == 150


def test_keys_and_ends():
    ds = SyntheticFaces(8, "test")
    assert ds.key(17) == "synthetic-test-17"
    assert ds.key(-1) == "synthetic-test-999"
    assert torch.equal(ds[-1], ds[999])
    with pytest.raises(IndexError):
        ds[1000]
    with pytest.raises(UserError, match="positive"):
        SyntheticFaces(0, "test")


def test_resolutions_show_the_same_antialiased_face():
    large = SyntheticFaces(256, "train").load(range(16)).float() / 255
    small = SyntheticFaces(32, "train").load(range(16)).float() / 255
    error = (F.avg_pool2d(large, 8) - small).square().mean()
    other = (F.avg_pool2d(large, 8).roll(1, dims=0) - small).square().mean()
    assert -10 * error.log10() > 31  # dB; 27 with hard edges
    assert other > 10 * error


def test_every_feature_varies():
    p = draw_parameters(list(range(500)), "train", 0)
    constant = [name for name, value in p.items() if value.std() == 0]
    assert constant == []
    assert 0.15 < p["has_glasses"].mean() < 0.30


def test_the_test_split_is_shifted():
    train, test = (draw_parameters(list(range(600)), split, 0) for split in ("train", "test"))
    assert test["yaw"].abs().mean() > 1.2 * train["yaw"].abs().mean()
    assert test["has_glasses"].mean() > 1.5 * train["has_glasses"].mean()
    assert (test["hair"].mean() - train["hair"].mean()) > 0.05


def test_the_set_is_not_gaussian():
    faces = SyntheticFaces(16, "train").load(range(1500)).float().flatten(1) / 255
    centred = faces - faces.mean(0)
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    assert (spread[:20].square().sum() / spread.square().sum()) < 0.9  # 20 components do not explain it
    z = centred @ directions[:40].T / (spread[:40] / len(faces) ** 0.5)
    assert (z.pow(4).mean(0) - 3).abs().mean() > 0.3  # excess kurtosis; sampling alone gives about 0.1
