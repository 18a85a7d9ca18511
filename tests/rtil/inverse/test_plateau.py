"""The plateau rule on made curves, and rounds that follow it."""

import torch

from rtil.inverse.loop import Evaluation, Term, optimise
from rtil.inverse.plateau import Plateau, PlateauWatch
from rtil.inverse.schedules import Ramp

STEPS = torch.arange(60.0)


def flat_from(rule: Plateau, *curves: torch.Tensor) -> list[int | None]:
    """Return the step at which each curve is first called flat."""
    watch = PlateauWatch(rule, len(curves), torch.device("cpu"))
    flags = torch.stack([watch.update(scores).clone() for scores in torch.stack(curves, 1)])
    return [int(f.nonzero()[0]) if f.any() else None for f in flags.T]


def by_hand(curve: list[float], window: int, threshold: float) -> int | None:
    lowest = [min(curve[: t + 1]) for t in range(len(curve))]
    for t in range(window, len(curve)):
        if lowest[t] >= (1 - threshold) * lowest[t - window]:
            return t
    return None


def test_made_curves() -> None:
    rule = Plateau(window=10, threshold=0.05)
    curves = {
        "constant": torch.ones(60),
        "falls 1 % a step": 0.99**STEPS,  # 10 % in ten steps
        "falls 0.3 % a step": 0.997**STEPS,  # 3 % in ten steps
        "falls, then stays": torch.where(STEPS < 25, 0.9**STEPS, 0.9**25),
        "noise around a falling mean": 0.97**STEPS * (1 + 0.3 * (STEPS % 2)),
        "rises first, as Adam does": torch.where(STEPS < 8, 1 + STEPS, 0.8 ** (STEPS - 7)),
        "rises for too long": torch.where(STEPS < 12, 1 + STEPS, 0.8 ** (STEPS - 11)),
        "becomes NaN": torch.where(STEPS < 5, 0.5**STEPS, torch.nan),
        "is solved": torch.zeros(60),
    }
    found = dict(zip(curves, flat_from(rule, *curves.values()), strict=True))
    assert found["constant"] == found["is solved"] == 10
    assert found["falls 1 % a step"] is None
    assert found["falls 0.3 % a step"] == 10
    # lowest[24] = 0.9^24, lowest[25] = 0.9^25 is the first that stays: flat ten steps after the last fall of 5 %
    assert found["falls, then stays"] == 35
    assert found["noise around a falling mean"] is None
    assert found["rises first, as Adam does"] is None
    assert found["rises for too long"] == 10
    assert found["becomes NaN"] == 14
    for name, curve in curves.items():
        values = [v if v == v else float("inf") for v in curve.tolist()]
        assert found[name] == by_hand(values, 10, 0.05), name


def test_curves_are_judged_one_by_one_and_flat_is_for_good() -> None:
    rng = torch.Generator().manual_seed(0)
    steps = 0.9 + 0.1 * torch.rand(8, 60, generator=rng)
    curves = list(steps.cumprod(1))
    rule = Plateau(window=5, threshold=0.2)
    assert flat_from(rule, *curves) == [flat_from(rule, curve)[0] for curve in curves]
    assert flat_from(rule, *curves) == [by_hand(curve.tolist(), 5, 0.2) for curve in curves]
    assert len({*flat_from(rule, *curves)}) > 2
    watch = PlateauWatch(Plateau(1, 0.5), 1, torch.device("cpu"))
    assert [bool(watch.update(torch.tensor([score]))) for score in (1.0, 0.4, 0.3, 0.01)] == [False, False, True, True]


SCALES = torch.tensor([0.5, 2.0, 6.0])


def descend(images: list[int], steps: int = 400, seen: list[torch.Tensor] | None = None, **options):
    """Go from 0 to SCALES with constant steps: image i in about SCALES[i] / lr of them."""
    scales = SCALES[images]

    def evaluate(variables):
        error = 0.01 + (variables["v"][:, 0] - scales).square() / scales.square()
        return Evaluation(variables["v"][:, :, None, None], {"measurement": Term(1.0, error)}, error)

    def watch(step, picture):
        if seen is not None:
            seen.append(picture[:, 0, 0, 0].clone())

    alive = torch.ones(len(images), dtype=torch.bool)
    settings = {"steps": steps, "lr": 0.05, "schedule": Ramp(0, 0), "alive": alive, "plateau": Plateau(8, 0.05)}
    return optimise({"v": torch.zeros(len(images), 1)}, evaluate, on_iterate=watch, **settings | options)


def test_images_that_flattened_wait_for_their_mates() -> None:
    seen: list[torch.Tensor] = []
    outcome = descend([0, 1, 2], seen=seen)
    moving = outcome.history["moving"]
    assert moving.shape == outcome.history["measurement"].shape == (3, 400)
    ends = moving.sum(1).int().tolist()
    assert ends[0] < ends[1] < ends[2] < 400
    assert len(seen) < 400, "the round ends when no image moves"
    track = torch.stack(seen, 1)
    for image, end in enumerate(ends):
        assert (moving[image, :end] == 1).all()
        assert (moving[image, end:] == 0).all()
        assert (track[image, end:] == track[image, end]).all(), "momentum must not carry it on"
        assert track[image, end - 1] != track[image, end]
    assert torch.equal(outcome.score, outcome.history["measurement"].min(1).values)


def test_mates_decide_when_the_round_ends_but_not_what_an_image_becomes() -> None:
    together = descend([0, 1, 2])
    for image in range(3):
        alone = descend([image])
        assert torch.equal(alone.variables["v"][0], together.variables["v"][image])
        for name in ("measurement", "moving"):
            assert torch.equal(alone.history[name][0], together.history[name][image])


def test_an_image_that_never_flattens_runs_to_the_end() -> None:
    outcome = descend([2], steps=30)
    assert (outcome.history["moving"] == 1).all()
    assert torch.equal(outcome.variables["v"], descend([2], steps=30, plateau=None).variables["v"])


def test_the_last_iterate_of_a_round_that_ended_early() -> None:
    seen: list[torch.Tensor] = []
    outcome = descend([0, 1], seen=seen, keep_last=True)
    assert torch.equal(outcome.variables["v"][:, 0], seen[-1])


def test_an_image_that_is_given_up_does_not_keep_the_round_going() -> None:
    seen: list[torch.Tensor] = []
    outcome = descend([0, 2], seen=seen, alive=torch.tensor([True, False]))
    assert len(seen) < 100
    assert outcome.history["moving"][1].sum() == 0
