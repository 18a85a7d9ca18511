import pytest
import torch
import torch.nn.functional as F

from rtil import seeds
from rtil.generators.base import weight_hash
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse import latent_space as module
from rtil.inverse.latent_space import (
    GaussianWPlus,
    PlainZ,
    fit_gaussian,
    latent_space_of,
    on_sphere,
    row_norms,
)


@pytest.fixture
def generator():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return StyleGAN2Generator(8, {4: 4, 8: 4}, z_dim=32, w_dim=32, mapping_layers=3)


def test_fit_has_the_moments_of_the_mapping_network(generator):
    mean, std = fit_gaussian(generator, draws=5000)
    with torch.no_grad():
        w = generator.mapping(generator.draw_z(40_000, seeds.generator(5, "test/z")))[:, 0].double()
    u = torch.where(w > 0, w, 5 * w)
    assert torch.allclose(mean.double(), u.mean(0), atol=0.08)
    assert torch.allclose(std.double(), u.std(0), rtol=0.05)


def test_proxies_look_like_the_networks_outputs(generator, cache):
    space = latent_space_of(generator)
    ids = [str(i) for i in range(2000)]
    ws = space.ws(space.start("normal", ids, seed=0))[:, 0]
    with torch.no_grad():
        w = generator.mapping(generator.draw_z(2000, seeds.generator(5, "test/z")))[:, 0]
    assert torch.allclose(ws.mean(0), w.mean(0), atol=0.12)
    assert torch.allclose(ws.std(0), w.std(0), rtol=0.25)
    assert isinstance(space, GaussianWPlus)
    assert torch.allclose(space.ws(space.start("mean", ["a"], 0))[0, 1], F.leaky_relu(space.mean, 0.2))


def test_fit_is_cached_by_the_weights(generator, cache, monkeypatch):
    first = latent_space_of(generator)
    assert len(list(cache.glob("*.safetensors"))) == 1
    assert not list(cache.glob("*.tmp"))

    def refuse(*args):
        raise AssertionError("computed again")

    with monkeypatch.context() as patched:
        patched.setattr(module, "fit_gaussian", refuse)
        assert torch.equal(latent_space_of(generator).mean, first.mean)
        with torch.no_grad():
            next(generator.mapping_layers.parameters()).mul_(1.001)
        with pytest.raises(AssertionError, match="computed again"):
            latent_space_of(generator)


def test_a_cache_that_cannot_be_written_only_warns(generator, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(module, "FIT_DRAWS", 100)
    with pytest.warns(UserWarning, match="RTIL_CACHE"):
        latent_space_of(generator)


def test_hash_sees_every_weight(generator):
    before = weight_hash(generator)
    assert before == weight_hash(generator)
    with torch.no_grad():
        generator.blocks[1].torgb.bias[2] += 1e-6
    assert weight_hash(generator) != before


def test_draws_depend_on_the_image_not_on_its_place():
    space = PlainZ(3, 16, torch.device("cpu"))
    v = space.start("normal", ["a", "b"], seed=0)
    assert torch.equal(space.start("normal", ["c", "b"], seed=0)[1], v[1])
    assert not torch.equal(v[0], v[1])
    assert not torch.equal(space.start("normal", ["a", "b"], seed=0, restart=1), v)
    assert not torch.equal(space.start("normal", ["a", "b"], seed=1), v)
    assert torch.equal(space.ws(v), v)


@pytest.mark.parametrize("shape", [(3, 5, 16), (3, 1, 4, 4)])
def test_sphere(shape):
    start = torch.randn(shape, generator=seeds.generator(0, "test/start"))
    moved = start + torch.randn(shape, generator=seeds.generator(0, "test/moved"))
    dims = tuple(range(2, len(shape)))
    back = on_sphere(moved, row_norms(start))
    assert torch.allclose(back.square().sum(dims), start.square().sum(dims), rtol=1e-5)
    assert torch.allclose(F.cosine_similarity(back.flatten(1), back.flatten(1)), torch.ones(3))
    per_row = on_sphere(moved * 7, row_norms(start))
    assert torch.allclose(per_row, back, rtol=1e-5)
    assert torch.equal(on_sphere(moved, row_norms(torch.zeros(shape))), moved)
