"""The results of a study: the rows of its runs, joined evaluation by evaluation, and their summaries.

The seeds of a summary are the two-level bootstrap's first level. With several training seeds these are they, and
operator seeds are averaged within them: they are no independent trainings. Else they are the operator seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rtil.evaluation.rows import Row, read_rows
from rtil.evaluation.shards import row_files
from rtil.evaluation.statistics import Interval
from rtil.evaluation.summary import Summary, ratio_of, summarise
from rtil.study.runs import Run
from rtil.study.specification import Study

AVERAGED = ("psnr", "ssim", "lpips", "seconds", "psnr_oracle", "measurement_error")


@dataclass(frozen=True)
class Result:
    """What an evaluation of a study came to.

    Attributes:
        rows: Of all its runs; of their seeds, see the module.
        summary: Of these rows.
        folders: Of its runs.
    """

    rows: Sequence[Row]
    summary: Summary
    folders: Sequence[Path]


@dataclass(frozen=True)
class Ratio:
    """How many times larger the error of one method is than that of another, on one checkpoint."""

    evaluation: str
    condition: str
    checkpoint: str
    methods: tuple[str, str]
    interval: Interval


def collect(study: Study, runs: Sequence[Run], out: Path) -> dict[str, Result]:
    """Return the results by evaluation.

    Args:
        study: Whose they are.
        runs: All of its runs.
        out: Its folder.
    """
    found = {}
    for name in study.evaluations:
        own = [run for run in runs if run.evaluation == name]
        by_run = [(run, _rows(run.folder(out))) for run in own]
        rows = [row for _, of_run in by_run for row in of_run]
        if len(study.training_seeds) > 1:
            rows = _by_training(by_run)
        options = study.options(name)
        methods = [candidate.label for candidate in options.candidates()]
        tasks = [task.partition(":")[0] for task in options.task]
        rows.sort(key=partial(_place, tasks, methods, list(study.checkpoints)))
        found[name] = Result(rows, summarise(rows), [run.folder(out) for run in own])
    return found


def ratios(study: Study, results: Mapping[str, Result]) -> list[Ratio]:
    """Return the ratios of errors that a study asks for, wherever both methods ran."""
    found = []
    for name, result in results.items():
        series: dict[tuple[str, str, str], list[Row]] = {}
        for row in result.rows:
            series.setdefault((row.task + f" {row.level}", row.checkpoint, row.method), []).append(row)
        conditions = {f"{line.task} {line.level}": line.condition for line in result.summary.lines}
        for pair in study.ratios:
            first, second = pair.split(" / ")
            for (place, checkpoint, method), rows in series.items():
                other = series.get((place, checkpoint, second))
                interval = ratio_of(rows, other) if method == first and other else None
                if interval is not None and math.isfinite(interval.mean):
                    found.append(Ratio(name, conditions[place], checkpoint, (first, second), interval))
    return found


def _place(tasks: Sequence[str], methods: Sequence[str], priors: Sequence[str], row: Row) -> tuple[object, ...]:
    """Return what rows are sorted by, so that tables do not tell in which order they were computed."""
    level = (1, str(row.level)) if isinstance(row.level, str) else (0, float(row.level or 0))
    method = methods.index(row.method) if row.method in methods else len(methods)
    prior = priors.index(row.checkpoint) if row.checkpoint in priors else len(priors)
    return tasks.index(row.task), level, method, row.method, prior, row.seed, row.image


def _rows(folder: Path) -> list[Row]:
    found = {row.key: row for path in reversed(row_files(folder)) for row in read_rows(path).rows}
    return list(found.values())


def _by_training(by_run: Sequence[tuple[Run, Sequence[Row]]]) -> list[Row]:
    """Return rows whose seed is the training's, those of several operator seeds averaged."""
    groups: dict[object, list[Row]] = {}
    for run, rows in by_run:
        for row in rows:
            of_training = replace(row, seed=run.training_seed if run.training_seed is not None else row.seed)
            groups.setdefault(of_training.key, []).append(of_training)
    return [_mean(rows) for rows in groups.values()]


def _mean(rows: Sequence[Row]) -> Row:
    """Return one row for several operator seeds: means in dB, as everywhere."""
    if len(rows) == 1:
        return rows[0]
    means: dict[str, Any] = {name: float(np.mean([getattr(row, name) for row in rows])) for name in AVERAGED}
    rounds = tuple(float(np.mean(of)) for of in zip(*(row.psnr_round for row in rows), strict=True))
    status = next((row.status for row in rows if row.status != "ok"), "ok")
    return replace(rows[0], **means, psnr_round=rounds, status=status)
