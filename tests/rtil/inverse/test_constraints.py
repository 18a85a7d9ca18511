import math

import torch

from rtil.inverse.constraints import ball_around, start_norms, typical_shell


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_ball_lies_around_the_start_and_leaves_its_inside_alone() -> None:
    start, away = 10 * draw(0, 2, 3, 4, 4), draw(1, 2, 3, 4, 4)
    inside = start + 0.01 * away
    nearest = ball_around(start, 5.0)
    assert torch.equal(nearest(inside), inside)
    outside = nearest(start + away)
    assert torch.allclose((outside - start).flatten(1).abs().sum(1), torch.tensor(5.0), rtol=1e-5)
    assert ((outside - start) * away >= 0).all()
    assert torch.equal(ball_around(start, 0.0)(start + away), start)


def test_rows_keep_their_norms_and_zero_is_free() -> None:
    start = draw(2, 2, 3, 4)
    start[0, 1] = 0
    moved = start_norms(start)(2 * draw(3, 2, 3, 4))
    norms = start.norm(dim=2)
    assert torch.allclose(moved.norm(dim=2)[norms > 0], norms[norms > 0], rtol=1e-5)
    assert moved[0, 1].norm() > 0


def test_the_shell_is_that_of_the_prior() -> None:
    t = draw(4, 2, 3, 16, 16)
    shell = typical_shell(0.5)(torch.stack([t[0], 100 * t[1]]))
    assert torch.allclose(shell.flatten(1).norm(dim=1), torch.tensor(0.5 * math.sqrt(768)))
    assert torch.allclose(shell[1] / shell[1].norm(), t[1] / t[1].norm(), atol=1e-6)
    drawn = 0.5 * draw(5, 1, 10_000)
    assert torch.allclose(typical_shell(0.5)(drawn), drawn, rtol=0.05), "where nearly all of the prior lies"
