"""What a study costs before it runs: inversions, steps, and seconds by a timing of this very machine.

Timed are a few steps of each method on the shipped prior (32 px, StyleGAN2), eight pictures at a time. Other sizes are
taken in proportion to their pixels; perceptual terms, baselines and opening are not counted, nor are other networks'
channels. So the seconds tell minutes from days, no more. A study that trains adds that; ``rtil train --dry_run`` tells.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from rtil.cli.eval import EvalOptions
from rtil.devices import pick_device, wait_for
from rtil.errors import UserError
from rtil.evaluation.candidates import CLASSIFIER, Candidate
from rtil.evaluation.conditions import conditions
from rtil.inverse.operators import make_operator
from rtil.inverse.registry import solver_class
from rtil.snapshot import load_snapshot
from rtil.study.runs import candidates, plain_runs
from rtil.study.specification import Study

TIMED_SIDE, TIMED_PICTURES, TIMED_STEPS = 32, 8, 6
SIDES = {"quick": 32, "paper": 256}
BLOCKS = {32: 4, 256: 7}


@dataclass(frozen=True)
class Cost:
    """What something costs.

    Attributes:
        inversions: Pictures times cells.
        steps: Of all of them.
        seconds: Estimated, on one process.
    """

    inversions: int = 0
    steps: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.inversions + other.inversions, self.steps + other.steps, self.seconds + other.seconds)

    def times(self, number: float) -> "Cost":
        """Return what so many of it cost."""
        return Cost(round(self.inversions * number), round(self.steps * number), self.seconds * number)

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.inversions} inversions, {_short(self.steps)} steps, about {duration(self.seconds)}"


def cost_of(study: Study, device: str = "auto") -> Cost:
    """Return what the inversions of a study cost.

    Args:
        study: The study.
        device: On which it would run.
    """
    side = SIDES.get(study.size, TIMED_SIDE)
    whole = Cost()
    for run in plain_runs(study):
        options = study.options(run.evaluation)
        for candidate in options.candidates():
            whole += _of(options, candidate, side, device).times(len(study.checkpoints))
    tuned = candidates(study)
    for one in tuned:
        assert study.tune is not None  # noqa: S101  runs.candidates
        options = study.options(one.evaluation)
        own = [c for c in options.candidates() if one.label in (c.label, c.method)]
        for candidate in own[:1]:
            test = _of(options, candidate, side, device)
            trials = study.tune.trials * study.tune.images / options.images
            whole += test.times(trials) + test.times(len(study.seeds))
    return whole


def lines_of(study: Study, device: str = "auto") -> Iterator[str]:
    """Yield lines for people."""
    size = f" --size {study.size}" if study.size else ""
    trained = [name for name, one in study.checkpoints.items() if one.train is not None]
    asked = [name for name, one in study.checkpoints.items() if one.train is None and one.path is None]
    yield f"{study.name}{size}: {study.title}"
    yield f"    {cost_of(study, device)}"
    if trained:
        yield f"    and the training of {', '.join(trained)}, for {max(1, len(study.training_seeds))} seed(s)"
    if asked:
        yield f"    needs --checkpoints {' '.join(f'{name}=PATH' for name in asked)}"


def how_estimated(device: str = "auto") -> str:
    """Return how the seconds were estimated."""
    return (
        f"seconds: timed here on the shipped prior ({TIMED_SIDE} px, {TIMED_PICTURES} pictures at a time, "
        f"on {pick_device(device)}), in proportion to pixels; without perceptual terms, baselines and opening"
    )


def duration(seconds: float) -> str:
    """Return a time for people.

    Example:
        >>> duration(40), duration(600), duration(90000)
        ('40 s', '10 min', '25 h')
    """
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _of(options: EvalOptions, candidate: Candidate, side: int, device: str) -> Cost:
    """Return what a candidate of an evaluation costs on one checkpoint."""
    blocks = BLOCKS.get(side, side.bit_length() - 2)
    settings = candidate.settings_for(blocks, {}, [{}])
    steps = getattr(settings, "steps", 0)
    per_picture = (sum(steps) if isinstance(steps, tuple) else int(steps or 0)) * settings.restarts
    if CLASSIFIER in options.task:
        cells, pictures = len(options.classes) * len(options.radius_scales), options.pictures_per_class
    else:
        measured = conditions(
            *(options.task, options.rates, options.factors, options.sigmas, options.mask, options.widths),
            *(options.lengths, options.exposures),
        )
        cells, pictures = len(measured), options.images
    inversions = cells * pictures
    each = seconds_per_step(candidate.method, getattr(settings, "codes", 1), device) * (side / TIMED_SIDE) ** 2
    return Cost(inversions, inversions * per_picture, inversions * per_picture * each)


@cache
def seconds_per_step(method: str, codes: int, device: str = "auto") -> float:
    """Return the seconds of one step of one picture at 32 px, timed."""
    on = pick_device(device)
    prior = load_snapshot("shipped:rtil", on)
    kind = solver_class(method)
    more: Mapping[str, Any] = {"codes": codes} if codes > 1 else {}
    settings = _few_steps(kind.Settings(**more))
    operator = make_operator("cs", (3, TIMED_SIDE, TIMED_SIDE), seed=0, rate=0.1).to(on)
    grey = torch.full((TIMED_PICTURES, 3, TIMED_SIDE, TIMED_SIDE), 0.5, device=on)
    y = operator(grey, [str(number) for number in range(TIMED_PICTURES)])
    solver = kind(prior.generator, settings)
    solver.invert(y, operator)  # what is made once
    wait_for(on)
    started = time.perf_counter()
    solver.invert(y, operator)
    wait_for(on)
    steps = getattr(settings, "steps", TIMED_STEPS)
    number = sum(steps) if isinstance(steps, Sequence) else int(steps or TIMED_STEPS)
    return (time.perf_counter() - started) / (number * TIMED_PICTURES)


def _few_steps(settings: Any) -> Any:
    try:
        return settings.changed(steps=TIMED_STEPS)
    except UserError:
        return settings.changed(steps=(TIMED_STEPS,) * 4)


def _short(number: int) -> str:
    """Return a large number for people.

    Example:
        >>> _short(950), _short(23_040), _short(7_000_000)
        ('950', '23 thousand', '7.0 million')
    """
    if number >= 10**6:
        return f"{number / 10**6:.1f} million"
    return f"{number / 1000:.0f} thousand" if number >= 10**4 else str(number)
