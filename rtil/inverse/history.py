"""The course of an inversion as a table, and what it tells of the rounds."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rtil.files import atomic_path
from rtil.inverse.loop import MOVING, RANGE, ROUND, STEP
from rtil.inverse.result import Inversion


def steps_per_round(found: Inversion) -> list[list[float]] | None:
    """Return for each of N images the steps that it took in each round before it was flat or diverged.

    Of restarts that were averaged it is their mean, to a tenth.

    Args:
        found: With a plateau rule.

    Returns:
        None without such a rule: all steps were taken.
    """
    if MOVING not in found.history:
        return None
    moving, rounds = found.history[MOVING], found.history[ROUND].round()
    taken = torch.stack([(moving * (rounds == k)).sum(1) for k in range(len(found.rounds))], 1)
    return [[_short(count) for count in counts] for counts in taken.tolist()]


def write_history(path: Path, history: Mapping[str, Tensor], names: Sequence[str], first: int = 0) -> None:
    """Write a history as a CSV file, atomically: one line for each image and step, one column for each term.

    The terms are those before the step. Distances to the range follow the rounds of their image, with "range" as the
    round and counted through from 0.

    Args:
        path: The file.
        history: :attr:`rtil.inverse.result.Inversion.history`; empty without steps.
        names: Of the N inputs.
        first: Number of the first image.
    """
    terms = [name for name in history if name not in (ROUND, STEP)]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["input", "image", ROUND, STEP, *terms])
        for n, name in enumerate(names):
            of_image = {term: t[n].tolist() for term, t in history.items()}
            for line in _lines(of_image, terms):
                table.writerow([name, first + n, *line])


def _lines(history: Mapping[str, list[float]], terms: Sequence[str]) -> Iterator[list[str]]:
    """Yield round, step and the terms, of one image."""
    for column, (number, step) in enumerate(zip(history.get(ROUND, []), history.get(STEP, []), strict=True)):
        values = ["" if term == RANGE else _number(history[term][column]) for term in terms]
        yield [f"{number:.0f}", f"{step:.0f}", *values]
    for step, value in enumerate(history.get(RANGE, [])):
        yield [RANGE, str(step), *(_number(value) if term == RANGE else "" for term in terms)]


def _number(value: float) -> str:
    return f"{value:.9g}"  # a float32 comes back as it was


def _short(count: float) -> float:
    tenths = round(count, 1)
    return int(tenths) if tenths.is_integer() else tenths
