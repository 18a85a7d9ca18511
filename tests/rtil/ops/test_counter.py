import pytest
import torch
from scipy import stats

from rtil.ops import Drawn, counter_normal, materialise
from rtil.ops.counter import philox
from rtil.ops.selftest import using_tier

ALL = 2**64 - 1


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        (0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (0x85A308D3243F6A88, 0x299F31D0A4093822, None),
        (ALL, ALL, None),
    ],
)
def test_philox_equals_the_rounds_of_its_paper(counter, key, words):
    """The known answer of Random123 for zeros; elsewhere a transcription with Python's unbounded integers."""
    low, mask = counter - (counter >> 63 << 64), 2**32 - 1
    ours = tuple(int(word) for word in philox(torch.tensor([low]), key))
    c, k = [counter & mask, counter >> 32, 0, 0], [key & mask, key >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & mask, p0 >> 32 ^ c[3] ^ k[1], p0 & mask]
        k = [k[0] + 0x9E3779B9 & mask, k[1] + 0xBB67AE85 & mask]
    assert ours == tuple(c)
    assert words is None or ours == words


@pytest.mark.parametrize("key", [0, 12345, 2**63 + 7, ALL])
def test_tiers_draw_the_same_numbers(fast, key):
    ours = counter_normal((3, 40_001), key)
    with using_tier("ref"):
        exact = counter_normal((3, 40_001), key)
    torch.testing.assert_close(ours, exact, rtol=1e-5, atol=2e-6)


def test_numbers_are_normal_and_independent_of_the_shape(tier):
    x = counter_normal((100_003,), 5)
    assert x.dtype == torch.float32
    assert stats.kstest(x.numpy(), "norm").pvalue > 0.01
    for lag in (1, 2, 4):
        assert abs(float((x[lag:] * x[:-lag]).mean())) < 4 / 100_000**0.5
    assert torch.equal(counter_normal((7, 11), 5).flatten(), x[:77])
    assert not torch.equal(counter_normal((77,), 6), x[:77])


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 3, 5, 1), (4, 1, 3, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_drawn_has_the_deviation_of_its_sample(tier, shape, layout):
    sigma = torch.tensor([0.0, 2.0, 0.0, 0.5])
    like = torch.empty(1, 2, 3, 3, dtype=torch.bfloat16).contiguous(memory_format=layout)
    x = materialise(Drawn(9, sigma), shape, like)
    plain = counter_normal(shape, 9)
    torch.testing.assert_close(x, (plain * sigma[:, None, None, None]).bfloat16())
    assert x.is_contiguous(memory_format=layout)
    torch.testing.assert_close(materialise(Drawn(9), shape, like), plain.bfloat16())


def test_a_tensor_stands_for_itself():
    x = torch.ones(1, 2, 3, 3)
    assert materialise(x, (), x) is x


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 3, 3)])
def test_rows_are_those_of_the_whole(tier, shape):
    rows, sigma, like = torch.tensor([1, 4, 6]), torch.tensor([0.0, 2.0, 0.5]), torch.empty(1, 1, 1, 1)
    whole = counter_normal((7, *shape), 8)
    assert torch.equal(counter_normal((3, *shape), 8, rows=rows), whole[rows])
    drawn = materialise(Drawn(8, sigma, rows), (3, *shape), like)
    torch.testing.assert_close(drawn, whole[rows] * sigma[:, None, None, None])
