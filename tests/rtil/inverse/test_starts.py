import pytest
import torch

from rtil import seeds
from rtil.errors import UserError
from rtil.generators.pggan import PGGANGenerator
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.latent_space import GaussianWPlus, PlainZ
from rtil.inverse.starts import check_start, noise_start_shapes, row_shape, starts_of_attempts

SHAPES = {"v": (5, 8), "noise_0": (1, 4, 4), "z1_1": (6, 4, 4)}


def start(S=2, N=3):
    rng = seeds.generator(0, "test/start")
    return {name: torch.randn(S, N, *shape, generator=rng) for name, shape in SHAPES.items()}


@pytest.fixture
def w_plus():
    rng = seeds.generator(0, "test/moments")
    return GaussianWPlus(torch.randn(8, generator=rng), torch.rand(8, generator=rng) + 0.1, 5)


def test_ws_and_proxies_are_maps_there_and_back(w_plus):
    ws = torch.randn(2, 3, 5, 8, generator=seeds.generator(1, "test/ws"))
    torch.testing.assert_close(w_plus.ws(w_plus.v(ws)), ws, rtol=1e-5, atol=1e-5)
    double = GaussianWPlus(w_plus.mean.double(), w_plus.std.double(), 5)
    v = torch.randn(3, 5, 8, dtype=torch.float64, generator=seeds.generator(2, "test/v"))
    torch.testing.assert_close(double.v(double.ws(v)), v)
    assert torch.equal(PlainZ(5, 8, torch.device("cpu")).v(ws), ws)


def test_an_entry_that_never_varies_stays_at_its_mean():
    space = GaussianWPlus(torch.tensor([0.5, -0.5]), torch.tensor([1.0, 0.0]), 1)
    v = space.v(torch.tensor([[[2.0, 9.0]]]))
    assert v.tolist() == [[[1.5, 0.0]]]


def test_one_start_for_each_attempt(w_plus):
    given = start()
    first, second = starts_of_attempts({**given, "converged": torch.ones(2, 3, dtype=torch.bool)}, w_plus)
    assert first.keys() == second.keys() == SHAPES.keys()
    assert all(torch.equal(first[name], t[0]) and torch.equal(second[name], t[1]) for name, t in given.items())


def test_codes_of_an_encoder_become_proxies_unless_there_are_proxies(w_plus):
    v = start()["v"]
    ws = w_plus.ws(v)
    (found, _) = starts_of_attempts({"ws": ws.double()}, w_plus)
    assert found["v"].dtype == torch.float32
    torch.testing.assert_close(found["v"], v[0], rtol=1e-4, atol=1e-5)
    (found, _) = starts_of_attempts({"ws": ws + 1, "v": v}, w_plus)
    assert torch.equal(found["v"], v[0])
    assert "ws" not in found


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"w": torch.zeros(2, 3, 5, 8)}, ["unknown tensor in start_from 'w'", "v, ws, noise_0, z1_1"]),
        ({"z1_2": torch.zeros(2, 3, 6, 8, 8)}, ["'z1_2'", "did you mean 'z1_1'"]),
        ({"v": torch.zeros(3, 5, 8)}, ["v in start_from has shape [3, 5, 8]", "valid is [S, 3, 5, 8]"]),
        ({"v": torch.zeros(2, 4, 5, 8)}, ["[2, 4, 5, 8]", "3 images"]),
        ({"noise_0": torch.zeros(2, 3, 1, 8, 8)}, ["noise_0", "[S, 3, 1, 4, 4]"]),
        ({"v": torch.zeros(0, 3, 5, 8)}, ["[0, 3, 5, 8]"]),
        ({"v": torch.tensor(1.0)}, ["has shape []"]),
        ({"z1_1": torch.full((2, 3, 6, 4, 4), torch.nan)}, ["z1_1", "NaN"]),
        ({"z1_1": torch.zeros(1, 3, 6, 4, 4)}, ["v 2, noise_0 2, z1_1 1", "the same S"]),
        ({"ws": torch.zeros(2, 3, 5, 9)}, ["ws", "[S, 3, 5, 8]"]),
    ],
)
def test_what_is_no_start_is_refused_in_one_line(changed, words):
    check_start(start(), SHAPES, 3)
    with pytest.raises(UserError) as error:
        check_start({**start(), **changed}, SHAPES, 3)
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


@pytest.mark.parametrize("given", [{}, {"converged": torch.ones(1, 3, dtype=torch.bool)}])
def test_nothing_is_no_start(given):
    with pytest.raises(UserError, match="start_from is empty: valid are v, ws, noise_0, z1_1"):
        check_start(given, SHAPES, 3)


def test_shapes_are_those_of_the_generator():
    small = {"z_dim": 24}
    stylegan2 = StyleGAN2Generator(8, {4: 4, 8: 4}, z_dim=24, w_dim=12, mapping_layers=1)
    assert row_shape(stylegan2) == (stylegan2.num_ws, 12)
    assert list(noise_start_shapes(stylegan2).values()) == stylegan2.noise_shapes()
    pggan = PGGANGenerator(8, {4: 4, 8: 4}, **small)
    assert row_shape(pggan) == (1, 24)
    assert noise_start_shapes(pggan) == {}
