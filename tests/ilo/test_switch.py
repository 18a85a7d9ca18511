"""Rounds that end when the error has flattened."""

import pytest
import torch

from ilo import ILO
from rtil.errors import UserError
from rtil.inverse.schedules import Ramp

OPTIONS = {"steps": (60, 40), "seed": 3, "switch": "plateau", "switch_window": 6, "switch_threshold": 0.1}
IDS = ["a", "b", "c", "d"]


def test_a_round_is_shorter_than_its_steps_where_the_error_flattened(planted):
    result = ILO(planted.generator, **OPTIONS).invert(planted.x, planted.operator, IDS)
    moving = result.history["moving"]
    assert moving.shape == (4, 100)
    ends = [part.sum(1).int().tolist() for part in moving.split([60, 40], 1)]
    assert all(end >= 6 for part in ends for end in part)
    assert any(end < 60 for end in ends[0])
    assert len(set(ends[0] + ends[1])) > 2, "each image has its own end"
    for errors, part in zip(result.history["measurement"].split([60, 40], 1), moving.split([60, 40], 1), strict=True):
        for image in range(4):
            end = int(part[image].sum())
            lowest = errors[image].cummin(0).values
            assert all(lowest[t] < 0.9 * lowest[t - 6] for t in range(6, end))
            assert end in (len(lowest), *range(6, len(lowest)))
            if end < len(lowest):
                assert lowest[end] >= 0.9 * lowest[end - 6]
                # the others go on, and what batched sums round differently is not a move
                assert torch.allclose(errors[image, end:], errors[image, end], rtol=1e-3)


@pytest.mark.slow
def test_a_batch_is_as_one_at_a_time(planted):
    G, operator, x = planted
    together = ILO(G, **OPTIONS).invert(x, operator, IDS)
    singles = ILO(G, **OPTIONS, batch_size=1).invert(x, operator, IDS)
    assert torch.equal(singles.history["moving"], together.history["moving"])
    assert torch.allclose(singles.x, together.x, atol=1e-3)
    mates = x.clone()
    mates[[0, 2, 3]] = x[[3, 0, 2]] * 0.5
    other = ILO(G, **OPTIONS).invert(mates, operator, ["p", "b", "q", "r"])
    assert torch.equal(other.x[1], together.x[1])
    assert torch.equal(other.history["moving"][1], together.history["moving"][1])


def test_restarts_combine(planted):
    G, operator, x = planted
    result = ILO(G, **OPTIONS, restarts=2).invert(x, operator, IDS)
    assert result.history["moving"].shape == (4, 100)


def test_the_learning_rate_is_constant(planted):
    G, operator, x = planted
    assert ILO(G, **OPTIONS).schedule == Ramp(0, 0)
    assert ILO(G, steps=(1,)).schedule == Ramp()
    patient = ILO(G, **(OPTIONS | {"switch_window": 100}))(x, operator)
    fixed = ILO(G, steps=(60, 40), seed=3, schedule=Ramp(0, 0))(x, operator)
    assert torch.equal(patient, fixed), "nothing can be flat within a window longer than the round"
    with pytest.raises(UserError, match="constant learning rate"):
        ILO(G, **OPTIONS, schedule=Ramp())
