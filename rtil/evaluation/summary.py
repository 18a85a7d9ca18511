"""Rows to lines: for each task, level, method and checkpoint the means, and the paired differences that matter.

Checkpoints are compared with the one named "vanilla", or else with the first one met. Where an evaluation has several
architectures, each checkpoint is compared within its own: with the vanilla checkpoint of that architecture (the one
named "vanilla", or else the first met); only an architecture that has none is compared with the overall reference.

Every line shows three things that decide a comparison of priors: the result as the method returns it, what stopping
after another round would have given (the round is chosen on these very images, so it is an oracle's choice, as is the
best iterate), and the distance to the linear prior. Several seeds of one image are no independent pictures: intervals
take seeds and images as two levels (:mod:`rtil.evaluation.crossed`). All pairing is by image and seed. The differences
in PSNR are one family, whose p values are corrected by Holm's rule.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtil.evaluation.candidates import LINEAR
from rtil.evaluation.families import LEVEL, holm
from rtil.evaluation.levels import condition_text
from rtil.evaluation.rows import NO_CHECKPOINT, Level, Row
from rtil.evaluation.statistics import (
    Difference,
    Interval,
    Values,
    by_image,
    by_seed,
    mean_interval,
    mean_ratio,
    paired_difference,
)

REFERENCE = "vanilla"

Series = tuple[str, str, str, str]
"""Task, method, checkpoint, selection."""


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        task: Task of the rows, as are level, method, checkpoint, selection, settings, kimg, arch and trained_otherwise.
        n: Images.
        seeds: Seeds of each.
        diverged: Rows that became non-finite on the way.
        psnr: dB, as returned; likewise ssim and lpips.
        oracle: dB, of the iterate nearest to the truth.
        rounds: Mean dB after each round.
        best_round: Round, from 1, with the highest mean; None without rounds.
        reference: Checkpoint that this one is compared with; "" for the reference itself.
        reference_settings: Hash of the reference's settings; "" where there is nothing to compare with.
        psnr_gain: PSNR less the reference's; likewise ssim_gain.
        lpips_gain: LPIPS less the reference's; negative is better, and so counted in its win rate.
        best_round_gain: PSNR at this one's best round less that at the reference's own best round.
        over_linear: PSNR less the linear prior's.
        seconds: Mean per image, as is measurement_error.
        squared_error: Per pixel, pictures in [0, 1].
        coverage: Mean share of the pixels that intervals hold, by level; empty where there are none.
        spread: Mean standard deviation of attempts, as is interval_scale the factor by which intervals were widened.
        error_ratio: Mean squared error of the reference as a multiple of this one's: 2 is half of the error.
        scores: Means of what the task tells besides; of a text, the share of the rows in which it is the level.
        label: The checkpoint's name, with selection and settings where a method has several.
    """

    task: str
    level: Level
    method: str
    checkpoint: str
    selection: str
    settings: str
    n: int
    seeds: int
    diverged: int
    psnr: Interval
    ssim: Interval
    lpips: Interval
    oracle: Interval
    rounds: tuple[float, ...]
    best_round: int | None
    reference: str
    reference_settings: str
    psnr_gain: Difference | None
    ssim_gain: Difference | None
    lpips_gain: Difference | None
    best_round_gain: Difference | None
    over_linear: Difference | None
    seconds: float
    measurement_error: float
    kimg: float
    arch: str
    trained_otherwise: bool
    squared_error: Interval
    coverage: tuple[float, ...]
    spread: float
    interval_scale: float
    error_ratio: Interval | None
    scores: Mapping[str, float]
    label: str

    @property
    def condition(self) -> str:
        """Task and level, for people."""
        return condition_text(self.task, self.level)


@dataclass(frozen=True)
class Summary:
    """What an evaluation comes to: its lines, of which every table, chart and file is a form."""

    lines: Sequence[Line]

    @property
    def references(self) -> dict[str, str]:
        """The reference of each checkpoint that has one."""
        return {line.checkpoint: line.reference for line in self.lines if line.reference}

    @functools.cached_property
    def corrected(self) -> list[float]:
        """The p value of each line's difference in PSNR, corrected for all of them; NaN without one, or of few images.

        Two images can agree by chance as closely as one likes, so comparisons too small for an interval are no members.
        """
        gains = [line.psnr_gain for line in self.lines]
        return holm([gain.p_value if gain is not None and gain.is_shown else math.nan for gain in gains])

    @property
    def decided(self) -> list[bool]:
        """Whether each line differs from its reference, by the corrected p values."""
        return [p < LEVEL for p in self.corrected]


def summarise(rows: Sequence[Row]) -> Summary:
    """Return the lines, by task and level in the order of first appearance.

    In each, methods without a checkpoint come behind the others, and the linear prior last.

    Args:
        rows: Rows of one evaluation, in any order.
    """
    series: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        series.setdefault((series_of(row), row.level, row.settings), []).append(row)
    groups = [_Group(same) for same in series.values()]
    references = _references([group.first for group in groups if group.first.checkpoint != NO_CHECKPOINT])
    conditions = list(dict.fromkeys((group.first.task, group.first.level) for group in groups))
    methods = list(dict.fromkeys(group.first.method for group in groups))
    groups.sort(
        key=lambda group: (
            conditions.index((group.first.task, group.first.level)),
            group.first.checkpoint == NO_CHECKPOINT,
            group.first.method == LINEAR,
            methods.index(group.first.method),
        )
    )
    firsts = [group.first for group in groups]
    several = with_several_settings(firsts)
    lines = []
    for group, first, name in zip(groups, firsts, checkpoint_names(firsts), strict=True):
        label = f"{name} #{first.settings[:4]}" if (series_of(first), first.level) in several else name
        lines.append(_line(group, groups, references.get(first.checkpoint, ""), label))
    return Summary(lines)


def series_of(of: Row | Line) -> Series:
    """Return what has one value at each level, or one for each settings."""
    return of.task, of.method, of.checkpoint, of.selection


def with_several_settings(parts: Sequence[Row | Line]) -> set[tuple[Series, Level]]:
    """Return the series, each with the level, that have several settings there."""
    settings: dict[tuple[Series, Level], set[str]] = {}
    for part in parts:
        settings.setdefault((series_of(part), part.level), set()).add(part.settings)
    return {key for key, found in settings.items() if len(found) > 1}


def checkpoint_names(parts: Sequence[Row | Line]) -> list[str]:
    """Name the checkpoint of each, with the selection where its method has several."""
    selections: dict[str, set[str]] = {}
    for part in parts:
        selections.setdefault(part.method, set()).add(part.selection)
    return [f"{p.checkpoint}/{p.selection}" if len(selections[p.method]) > 1 else p.checkpoint for p in parts]


def _references(rows: Sequence[Row]) -> dict[str, str]:
    """Return the reference of every checkpoint; rows are one or more of each, in the order in which they were met."""
    checkpoints = list(dict.fromkeys(row.checkpoint for row in rows))
    overall = REFERENCE if REFERENCE in checkpoints or not checkpoints else checkpoints[0]
    arch = {row.checkpoint: row.arch for row in rows if row.arch}  # rows of older versions do not tell
    if len(set(arch.values())) < 2:
        return dict.fromkeys(checkpoints, overall)
    vanilla = [name for name in arch if not any(row.rtil for row in rows if row.checkpoint == name)]
    vanilla.sort(key=lambda name: (name != REFERENCE, checkpoints.index(name)))
    first = {arch[name]: name for name in reversed(vanilla)}
    return {name: first.get(arch.get(name, ""), overall) for name in checkpoints}


class _Group:
    """The rows of one line."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows, self.first = rows, rows[0]
        count = min(len(row.psnr_round) for row in rows)
        self.rounds: list[Values] = [{(row.image, row.seed): row.psnr_round[r] for row in rows} for r in range(count)]
        self.round_means = [float(np.mean(by_image(values))) for values in self.rounds]
        self.best = int(np.argmax(np.nan_to_num(self.round_means, nan=-np.inf, posinf=np.inf))) if count else None

    def values(self, of: Callable[[Row], float]) -> Values:
        return {(row.image, row.seed): of(row) for row in self.rows}

    def mean(self, of: Callable[[Row], float]) -> float:
        return float(np.mean([of(row) for row in self.rows]))


def _line(own: _Group, groups: Sequence[_Group], reference: str, label: str) -> Line:
    first = own.first
    other = None if first.checkpoint == reference else _counterpart(own, groups, reference)
    linear = None if first.method == LINEAR else _linear(own, groups)

    def interval(of: Callable[[Row], float]) -> Interval:
        return mean_interval(by_seed(own.values(of)))

    def gain(than: _Group | None, of: Callable[[Row], float], higher_is_better: bool = True) -> Difference | None:
        return None if than is None else paired(than.values(of), own.values(of), higher_is_better)

    best_round_gain = None
    if other is not None and other.best is not None and own.best is not None:
        best_round_gain = paired(other.rounds[other.best], own.rounds[own.best])
    return Line(
        task=first.task,
        level=first.level,
        method=first.method,
        checkpoint=first.checkpoint,
        selection=first.selection,
        settings=first.settings,
        n=len({row.image for row in own.rows}),
        seeds=len({row.seed for row in own.rows}),
        diverged=sum(row.status != "ok" for row in own.rows),
        psnr=interval(lambda row: row.psnr),
        ssim=interval(lambda row: row.ssim),
        lpips=interval(lambda row: row.lpips),
        oracle=interval(lambda row: row.psnr_oracle),
        rounds=tuple(own.round_means),
        best_round=None if own.best is None else own.best + 1,
        reference="" if other is None else reference,
        reference_settings="" if other is None else other.first.settings,
        psnr_gain=gain(other, lambda row: row.psnr),
        ssim_gain=gain(other, lambda row: row.ssim),
        lpips_gain=gain(other, lambda row: row.lpips, higher_is_better=False),
        best_round_gain=best_round_gain,
        over_linear=gain(linear, lambda row: row.psnr),
        seconds=own.mean(lambda row: row.seconds),
        measurement_error=own.mean(lambda row: row.measurement_error),
        kimg=first.kimg,
        arch=first.arch,
        trained_otherwise=first.trained_otherwise,
        squared_error=interval(squared_error),
        error_ratio=None if other is None else ratio_of(other.rows, own.rows),
        coverage=tuple(np.nanmean([row.coverage for row in own.rows], axis=0).tolist()) if _unsure(own.rows) else (),
        spread=own.mean(lambda row: row.spread),
        interval_scale=own.mean(lambda row: row.interval_scale),
        scores={name: own.mean(functools.partial(_score, name)) for name in first.scores},
        label=label,
    )


def _unsure(rows: Sequence[Row]) -> bool:
    """Tell whether all rows have intervals, and some of them pixels that are not measured."""
    return all(row.coverage for row in rows) and not np.isnan([row.coverage for row in rows]).all()


def squared_error(row: Row) -> float:
    """Return the mean squared error per pixel, pictures in [0, 1]."""
    return float(10 ** (-row.psnr / 10))


def ratio_of(a: Sequence[Row], b: Sequence[Row]) -> Interval | None:
    """Return mean squared error of a / that of b, on the images and seeds that both have; None when there is none."""
    tables = _common(*({(row.image, row.seed): squared_error(row) for row in rows} for rows in (a, b)))
    return None if tables is None else mean_ratio(*tables)


def _score(name: str, row: Row) -> float:
    value = row.scores[name]
    return float(value == row.level) if isinstance(value, str) else value


def _counterpart(own: _Group, groups: Sequence[_Group], reference: str) -> _Group | None:
    """Return the reference's group in the same condition: of the same settings, or else the only one there is."""
    wanted = (own.first.task, own.first.method, reference, own.first.selection), own.first.level
    candidates = [group for group in groups if (series_of(group.first), group.first.level) == wanted]
    found = [group for group in candidates if group.first.settings == own.first.settings] or candidates
    return found[0] if len(found) == 1 else None


def _linear(own: _Group, groups: Sequence[_Group]) -> _Group | None:
    wanted = LINEAR, own.first.task, own.first.level
    return next((g for g in groups if (g.first.method, g.first.task, g.first.level) == wanted), None)


def paired(a: Values, b: Values, higher_is_better: bool = True) -> Difference | None:
    """Compare on the images and seeds that both have; None when there is none."""
    tables = _common(a, b)
    return None if tables is None else paired_difference(*tables, higher_is_better=higher_is_better)


def _common(a: Values, b: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    common = a.keys() & b.keys()
    if not common:
        return None
    first, second = (by_seed({key: values[key] for key in common}) for values in (a, b))
    return first, second
