"""Rows to cells: for each task, level, method and checkpoint the means, and the paired differences that matter.

Checkpoints are compared with the one named "vanilla", or else with the first one met. Where an evaluation has several
architectures, each checkpoint is compared within its own: with the vanilla checkpoint of that architecture (the one
named "vanilla", or else the first met); only an architecture that has none is compared with the overall reference.

Every cell shows three things that decide a comparison of priors: the result as the method returns it, what stopping
after another round would have given (the round is chosen on these very images, so it is an oracle's choice, as is the
best iterate), and the distance to the linear prior. Several seeds of one image are averaged before any statistic, since
they are no independent pictures. All pairing is by image and seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rtil.evaluation.rows import NO_CHECKPOINT, Level, Row
from rtil.evaluation.statistics import Difference, Interval, mean_interval, paired_difference

LINEAR = "linear"
REFERENCE = "vanilla"

Values = Mapping[tuple[str, int], float]
"""One number by (image, seed)."""


@dataclass(frozen=True)
class Cell:
    """One line of a table.

    Attributes:
        task: Task of the rows.
        level: Rate, factor or sigma.
        method: Method of the rows.
        checkpoint: Name of the checkpoint, "-" for the linear prior and baselines.
        selection: Which iterate was returned.
        settings: Hash of the settings.
        n: Images.
        diverged: Rows that became non-finite on the way.
        psnr: dB, as returned.
        ssim: As returned.
        lpips: As returned.
        oracle: dB, of the iterate nearest to the truth.
        rounds: Mean dB after each round.
        best_round: Round, from 1, with the highest mean; None without rounds.
        reference: Checkpoint that this one is compared with; "" for the reference itself.
        reference_settings: Hash of the reference's settings; "" where there is nothing to compare with.
        psnr_gain: PSNR less the reference's.
        ssim_gain: SSIM less the reference's.
        lpips_gain: LPIPS less the reference's; negative is better, and so counted in its win rate.
        best_round_gain: PSNR at this one's best round less that at the reference's own best round.
        over_linear: PSNR less the linear prior's.
        seconds: Mean per image.
        measurement_error: Mean.
        kimg: Training length of the checkpoint in thousands of images.
        arch: Architecture of the checkpoint; "" if not known.
        mixes_differently: Whether the checkpoint was trained with RTIL, but with other random input, or at another
            place, than the method optimises.
    """

    task: str
    level: Level
    method: str
    checkpoint: str
    selection: str
    settings: str
    n: int
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
    mixes_differently: bool


def summarise(rows: Sequence[Row], reference: str = REFERENCE, seed: int = 0) -> list[Cell]:
    """Return the cells of a table, by task and level in the order of first appearance.

    In each, methods without a checkpoint come behind the others, and the linear prior last.

    Args:
        rows: Rows of one evaluation, in any order.
        reference: Name of the checkpoint that the others are compared with; see the head of this file.
        seed: Root seed of the bootstrap.
    """
    series: dict[tuple[str, Level, str, str, str, str], list[Row]] = {}
    for row in rows:
        identity = (row.task, row.level, row.method, row.checkpoint, row.selection, row.settings)
        series.setdefault(identity, []).append(row)
    groups = [_Series(same) for same in series.values()]
    references = _references([group.first for group in groups if group.first.checkpoint != NO_CHECKPOINT], reference)
    places = list(dict.fromkeys((group.first.task, group.first.level) for group in groups))
    methods = list(dict.fromkeys(group.first.method for group in groups))
    groups.sort(
        key=lambda group: (
            places.index((group.first.task, group.first.level)),
            group.first.checkpoint == NO_CHECKPOINT,
            group.first.method == LINEAR,
            methods.index(group.first.method),
        )
    )
    return [_cell(group, groups, references.get(group.first.checkpoint, ""), seed) for group in groups]


def _references(rows: Sequence[Row], named: str) -> dict[str, str]:
    """Return the reference of every checkpoint; rows are one or more of each, in the order in which they were met."""
    checkpoints = list(dict.fromkeys(row.checkpoint for row in rows))
    overall = named if named in checkpoints or not checkpoints else checkpoints[0]
    arch = {row.checkpoint: row.arch for row in rows if row.arch}  # rows of older versions do not tell
    if len(set(arch.values())) < 2:
        return dict.fromkeys(checkpoints, overall)
    vanilla = [name for name in arch if not any(row.rtil for row in rows if row.checkpoint == name)]
    vanilla.sort(key=lambda name: (name != named, checkpoints.index(name)))
    first = {arch[name]: name for name in reversed(vanilla)}
    return {name: first.get(arch.get(name, ""), overall) for name in checkpoints}


class _Series:
    """The rows of one cell."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows, self.first = rows, rows[0]
        lengths = {len(row.psnr_round) for row in rows}
        self.rounds: list[Values] = [self.values(lambda row, r=r: row.psnr_round[r]) for r in range(min(lengths))]  # type: ignore[misc]
        means = [float(np.mean(_by_image(values))) for values in self.rounds]
        self.round_means = tuple(means)
        self.best = int(np.argmax(np.nan_to_num(means, nan=-np.inf, posinf=np.inf))) if means else None

    def values(self, of: Callable[[Row], float]) -> Values:
        return {(row.image, row.seed): of(row) for row in self.rows}


def _cell(own: _Series, groups: Sequence[_Series], reference: str, seed: int) -> Cell:
    first = own.first
    other = None if first.checkpoint == reference else _counterpart(own, groups, reference)
    linear = None if first.method == LINEAR else _linear(own, groups)

    def mean(of: Callable[[Row], float]) -> Interval:
        return mean_interval(_by_image(own.values(of)), seed)

    def gain(than: _Series | None, of: Callable[[Row], float], higher_is_better: bool = True) -> Difference | None:
        return None if than is None else _paired(than.values(of), own.values(of), seed, higher_is_better)

    best_round_gain = None
    if other is not None and other.best is not None and own.best is not None:
        best_round_gain = _paired(other.rounds[other.best], own.rounds[own.best], seed)
    return Cell(
        task=first.task,
        level=first.level,
        method=first.method,
        checkpoint=first.checkpoint,
        selection=first.selection,
        settings=first.settings,
        n=len({row.image for row in own.rows}),
        diverged=sum(row.status != "ok" for row in own.rows),
        psnr=mean(lambda row: row.psnr),
        ssim=mean(lambda row: row.ssim),
        lpips=mean(lambda row: row.lpips),
        oracle=mean(lambda row: row.psnr_oracle),
        rounds=own.round_means,
        best_round=None if own.best is None else own.best + 1,
        reference="" if other is None else reference,
        reference_settings="" if other is None else other.first.settings,
        psnr_gain=gain(other, lambda row: row.psnr),
        ssim_gain=gain(other, lambda row: row.ssim),
        lpips_gain=gain(other, lambda row: row.lpips, higher_is_better=False),
        best_round_gain=best_round_gain,
        over_linear=gain(linear, lambda row: row.psnr),
        seconds=float(np.mean([row.seconds for row in own.rows])),
        measurement_error=float(np.mean([row.measurement_error for row in own.rows])),
        kimg=first.kimg,
        arch=first.arch,
        mixes_differently=first.mixes_differently,
    )


def _counterpart(own: _Series, groups: Sequence[_Series], reference: str) -> _Series | None:
    """Return the reference's series in the same cell: of the same settings, or else the only one there is."""
    wanted = ("task", "level", "method", "selection")
    candidates = [
        group
        for group in groups
        if group.first.checkpoint == reference and all(getattr(group.first, w) == getattr(own.first, w) for w in wanted)
    ]
    same = [group for group in candidates if group.first.settings == own.first.settings]
    if same:
        return same[0]
    return candidates[0] if len(candidates) == 1 else None


def _linear(own: _Series, groups: Sequence[_Series]) -> _Series | None:
    place = (own.first.task, own.first.level)
    return next((g for g in groups if g.first.method == LINEAR and (g.first.task, g.first.level) == place), None)


def _paired(a: Values, b: Values, seed: int, higher_is_better: bool = True) -> Difference | None:
    """Compare on the images and seeds that both have; None when there is none."""
    common = sorted(a.keys() & b.keys())
    if not common:
        return None
    first, second = (_by_image({key: values[key] for key in common}) for values in (a, b))
    return paired_difference(first, second, seed, higher_is_better=higher_is_better)


def _by_image(values: Values) -> list[float]:
    """Average the seeds of each image; images in sorted order."""
    images: dict[str, list[float]] = {}
    for image, seed in sorted(values):
        images.setdefault(image, []).append(values[image, seed])
    return [float(np.mean(seeds)) for seeds in images.values()]
