import pytest

from benchmarks.multicode import WAYS, measure


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_measured(way):
    found = measure(way, images=2, codes=2, side=4, steps=1)
    assert found["seconds"] > 0
    assert found["peak_mb"] > 100
