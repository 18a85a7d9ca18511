import pytest
import torch

from rtil.branches import additive_branches
from rtil.data import open_dataset, synthetic_faces
from rtil.errors import UserError
from rtil.evaluation.linear_prior import LinearPrior
from rtil.generators import StyleGAN2Generator
from rtil.quality import measure
from rtil.quality.distances import Distances
from rtil.quality.features import PooledFeatures
from rtil.quality.measure import Quality, QualityLine, table
from rtil.seeds import generator as seeded


@pytest.fixture
def quality(random_backbone, monkeypatch):
    monkeypatch.setattr(measure, "REFERENCE_PICTURES", 200)
    monkeypatch.setitem(synthetic_faces.SIZES, "train", 300)
    return Quality(open_dataset("synthetic", 16, "train"), PooledFeatures("alex"), count=64)


def test_reals_are_the_floor(quality):
    torch.manual_seed(0)
    G = StyleGAN2Generator(16, {4: 8, 8: 8, 16: 8}, z_dim=16, w_dim=16, mapping_layers=2).eval()
    lines = quality.of_generator(G, additive_branches(True, G.num_blocks))
    floor, linear = quality.of_reals(), quality.of_linear_prior()
    assert [line.of for line in [*lines, floor, linear]] == ["branch 0", "branch 1", "branch 2", "reals", "linear"]
    for line in [*lines, linear]:
        assert line.distances.frechet > floor.distances.frechet
    assert len(table([*lines, floor])) == 5


def test_reference_and_floor_share_no_picture(quality):
    everything = quality.compare("training set", quality.images)
    assert len(quality.reference) == 200
    order = torch.randperm(len(quality.images), generator=seeded(0, "quality/pictures"))
    assert torch.equal(quality.others, quality.images[order[:64]])
    rest = quality.compare("rest", quality.images[order[64:264]])
    assert rest.distances.frechet == pytest.approx(0, abs=1e-6 + 1e-3 * everything.distances.frechet)


def test_samples_of_one_picture_are_called_collapsed(quality):
    assert quality.compare("branch 0", quality.images[:1].expand(64, -1, -1, -1)).is_collapsed
    assert not quality.of_reals().is_collapsed
    assert QualityLine("x", Distances(0, 0, 0, 0, 0.29)).is_collapsed


def test_too_many_samples_are_refused(quality):
    with pytest.raises(UserError, match="8 to 150"):
        Quality(open_dataset("synthetic", 16, "train"), PooledFeatures("alex"), count=151)


@pytest.mark.parametrize("full", [True, False])
def test_the_linear_prior_draws_from_its_gaussian(full):
    rng = torch.Generator().manual_seed(0)
    mixing = torch.randn(12, 12, generator=rng)
    images = (torch.randn(3000, 12, generator=rng) @ mixing * 8 + 128).clamp(0, 255).to(torch.uint8).view(-1, 3, 2, 2)
    prior = LinearPrior.fit(images)
    if not full:
        values, vectors = torch.linalg.eigh(prior.covariance)
        kept, dropped = slice(4, None), slice(0, 4)
        prior = LinearPrior((3, 2, 2), prior.mean, None, vectors[:, kept], values[kept], float(values[dropped].mean()))
    x = prior.sample(40000, torch.Generator().manual_seed(1)).flatten(1).double()
    covariance = torch.cov((images.flatten(1).double() / 255).T)
    torch.testing.assert_close(x.mean(0), prior.mean, atol=5e-3, rtol=0)
    largest = covariance.diagonal().max()
    tolerance = 0.05 if full else 0.1  # the variances that were dropped are replaced by their mean
    assert (torch.cov(x.T) - covariance).abs().max() < tolerance * largest
