import pytest
import torch
from torch import Tensor

from ilo.pulse import PULSELatents
from rtil.inverse.latents import SolverLatents
from rtil.inverse.result import Inversion, Status, best_of, join_batches, mean_of


def inversion(seed: int, images: int = 3, status: list[Status] | None = None) -> Inversion:
    rng = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng)

    rounds = rand(2, images, 3, 4, 4)
    return Inversion(
        x=rounds[-1],
        rounds=rounds,
        score=rand(images),
        latents=SolverLatents({"ws": rand(1, images, 2, 5)}),
        history={"loss": rand(images, 6)},
        status=status or ["ok"] * images,
        seconds=1.0,
    )


def test_the_spread_of_restarts_is_the_standard_deviation_in_each_pixel_and_channel() -> None:
    attempts = [inversion(seed) for seed in range(4)]
    mean = mean_of(attempts)
    pictures = torch.stack([a.x for a in attempts]).double()
    average = pictures.sum(0) / 4
    expected = ((pictures - average).square().sum(0) / 3).sqrt()
    assert mean.spread is not None
    torch.testing.assert_close(mean.spread.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(mean.x.double(), average, rtol=1e-6, atol=1e-7)
    assert mean.latents["ws"].shape == (4, 3, 2, 5)


def test_one_attempt_and_the_best_of_several_have_none() -> None:
    assert mean_of([inversion(0)]).spread is None
    assert best_of([inversion(0), inversion(1)]).spread is None
    assert best_of([mean_of([inversion(0), inversion(1)])]).spread is None


def test_batches_keep_their_spreads_in_order() -> None:
    parts = [mean_of([inversion(s), inversion(s + 1)]) for s in (0, 2)]
    joined = join_batches(parts, 1.0)
    assert joined.spread is not None
    assert joined.spread.shape == (6, 3, 4, 4)
    assert torch.equal(joined.spread[3:], mean_of([inversion(2), inversion(3)]).spread)  # type: ignore[arg-type]
    assert join_batches([inversion(0), inversion(1)], 1.0).spread is None


@pytest.mark.parametrize("bad", [0, 1])
def test_a_diverged_attempt_is_never_the_best_and_marks_the_mean(bad: int) -> None:
    attempts = [inversion(a, status=["ok", "diverged" if a == bad else "ok", "ok"]) for a in range(2)]
    assert torch.equal(best_of(attempts).x[1], attempts[1 - bad].x[1])
    assert mean_of(attempts).status == ["ok", "diverged", "ok"]


def test_an_image_converged_if_every_attempt_behind_it_did() -> None:
    flags = torch.tensor([[True, True, False], [True, False, False]])
    assert PULSELatents({"converged": flags}).converged == [True, False, False]
    assert inversion(0).latents.converged is None


def test_batches_are_counted() -> None:
    first = join_batches([inversion(0), inversion(1, images=2)], 1.0)
    assert first.batches == [3, 2]
    assert join_batches([first, inversion(2, images=1)], 1.0).batches == [3, 2, 1]


def test_all_tensors_move_to_a_device() -> None:
    moved = mean_of([inversion(0), inversion(1)]).to("meta")
    assert moved.spread is not None
    tensors = [moved.x, moved.rounds, moved.score, moved.spread, *moved.latents.values(), *moved.history.values()]
    assert {t.device.type for t in tensors} == {"meta"}
    here = inversion(0)
    assert torch.equal(here.to("cpu").x, here.x)
